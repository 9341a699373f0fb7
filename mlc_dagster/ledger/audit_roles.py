"""PostgreSQL roles that keep the audit trail append-only against the pipeline itself, as SQL for a DBA.

Triggers stop a mistake; whoever owns a table can disable them. So the tables belong to an owner that does not log in,
and the pipeline's role may append to the audit tables and read them, no more; rights that reach it through another role
stop the SQL. What belongs here: the statements. What does not: running them; the pipeline's role must not be able to.
"""

import re

from mlc_dagster.ledger.migrate import TABLES

APPEND_ONLY = ("audit_event", "audit_chain", "audit_checkpoint")
_NAME = re.compile(r"[a-z_][a-z0-9_]{0,62}")


def roles_sql(*, owner: str, pipeline: str, schema: str = "public") -> str:
    """Statements for a superuser, in the ledger's database, after its tables were made; they can be run again.

    Args:
        owner: role that owns the tables and upgrades them; made without a login.
        pipeline: role that ``ledger.url`` logs in as; must be there.
        schema: where the tables are.

    Raises:
        ValueError: a name needs quoting.
    """
    for name in (owner, pipeline, schema):
        if not _NAME.fullmatch(name):
            msg = f"{name!r}: use lower-case letters, digits and underscores"
            raise ValueError(msg)
    if owner == pipeline:
        msg = f"{owner!r}: owner and pipeline must be two roles; an owner can disable triggers"
        raise ValueError(msg)
    tables = [*sorted(TABLES), "alembic_version"]
    working = [name for name in tables if name not in (*APPEND_ONLY, "alembic_version")]
    listed = ", ".join(f"'{name}'" for name in tables)
    lines = [
        "-- Roles of the mlc ledger: run as a superuser in the ledger's database, again after each upgrade.",
        f"-- {pipeline} works; {owner} owns the tables and is used for upgrades only (see the end).",
        "-- Only the ledger's tables are spoken of: Dagster's, if they are in the same schema, keep their rights.",
        "begin;",
        "do $$ begin",
        f"    if not exists (select from pg_roles where rolname = '{owner}') then",
        f"        create role {owner} nologin;",
        "    end if;",
        "end $$;",
        f"alter role {pipeline} nosuperuser nocreaterole nocreatedb noreplication nobypassrls;",
        f"revoke {owner} from {pipeline};",
        "",
        "-- The database, the tables, their sequences and the trigger's function belong to the owner: who owns a",
        "-- database gives himself every right in it again, and says where everybody's tables are looked for.",
        "do $$ begin",
        f"    execute format('alter database %I owner to {owner}', current_database());",
        f"    execute format('alter database %I set search_path = {schema}', current_database());",
        f"    execute format('revoke temporary, create on database %I from public, {pipeline}', current_database());",
        "end $$;",
        f"alter schema {schema} owner to {owner};",
        *(f"alter table {schema}.{name} owner to {owner};" for name in tables),
        f"alter function {schema}.mlc_append_only() owner to {owner};",
        "",
        "-- Nobody has a right that is not given here; no temporary table can take a ledger table's name.",
        *(f"revoke all on {schema}.{name} from public, {pipeline};" for name in tables),
        f"revoke all on schema {schema} from public, {pipeline};",
        f"revoke create on schema public from public, {pipeline};",
        "",
        "-- The pipeline works on the ledger …",
        f"grant usage on schema {schema} to {pipeline};",
        *(f"grant select, insert, update, delete on {schema}.{name} to {pipeline};" for name in working),
        f"grant select on {schema}.alembic_version to {pipeline};",
        "do $$ declare counter regclass; begin",
        "    for counter in",
        "        select d.objid::regclass from pg_depend d join pg_class s on s.oid = d.objid and s.relkind = 'S'",
        "        join pg_class t on t.oid = d.refobjid",
        f"        where t.relnamespace = '{schema}'::regnamespace and d.deptype in ('a', 'i')",
        f"        and t.relname in ({listed})",
        "    loop",
        f"        execute format('revoke all on sequence %s from public, {pipeline}', counter);",
        f"        execute format('grant usage on sequence %s to {pipeline}', counter);",
        "    end loop;",
        "end $$;",
        "",
        "-- … and only adds to the audit trail. No TRUNCATE, no TRIGGER, no REFERENCES; ownership stays away from it.",
        *(f"grant select, insert on {schema}.{name} to {pipeline};" for name in APPEND_ONLY),
        "",
        *_nothing_inherited(owner, pipeline, schema),
        "commit;",
        "",
        f"-- Upgrading: stop the pipeline; a DBA runs `mlc audit verify` with a login that acts as {owner}",
        f"-- (alter role dba_login set role {owner};): that makes the new tables. Then run this file again.",
        "",
    ]
    return "\n".join(lines)


def _nothing_inherited(owner: str, pipeline: str, schema: str) -> list[str]:
    """Statements that fail when the pipeline still has more rights by another way; nothing is changed then."""
    append_only = ", ".join(f"('{schema}.{name}')" for name in APPEND_ONLY)
    return [
        "-- A right may also come from another role, at one remove or more: then nothing of this is done.",
        "do $$ declare found record; remedy text := 'take it away, then run this file again'; begin",
        f"    if pg_has_role('{pipeline}', '{owner}', 'member') then",
        f"        raise exception '{pipeline} is still a member of {owner}, perhaps through another role; %', remedy;",
        "    end if;",
        "    for found in select oid, rolname from pg_roles",
        f"        where pg_has_role('{pipeline}', oid, 'member') loop",
        "        if exists (select from pg_roles where oid = found.oid",
        "                   and (rolsuper or rolcreaterole or rolreplication or rolbypassrls))",
        "            or found.rolname in ('pg_write_all_data', 'pg_maintain', 'pg_execute_server_program',",
        "                                 'pg_write_server_files', 'pg_read_server_files') then",
        f"            raise exception '{pipeline} is a member of %, which may more than work; %',",
        "                found.rolname, remedy;",
        "        end if;",
        f"        if exists (select from (values {append_only}) t (name)",
        "                   where has_table_privilege(found.oid, t.name, 'DELETE, TRUNCATE, TRIGGER')",
        "                   or has_any_column_privilege(found.oid, t.name, 'UPDATE, REFERENCES')) then",
        f"            raise exception '{pipeline} may change the audit tables as %; %', found.rolname, remedy;",
        "        end if;",
        "        if has_database_privilege(found.oid, current_database(), 'CREATE, TEMPORARY') then",
        f"            raise exception '{pipeline} may create schemas or temporary tables as %; %',",
        "                found.rolname, remedy;",
        "        end if;",
        "    end loop;",
        "    for found in select s.nspname, r.rolname from pg_namespace s, pg_roles r",
        f"        where pg_has_role('{pipeline}', r.oid, 'member') and s.nspname !~ '^pg_(toast|temp)'",
        "        and (has_schema_privilege(r.oid, s.oid, 'CREATE') or s.nspowner = r.oid)",
        "    loop",
        f"        raise exception '{pipeline} may make tables in schema % as %, with the names of the ledger''s; %',",
        "            found.nspname, found.rolname, remedy;",
        "    end loop;",
        "    for found in select s.nspname, c.relname from pg_class c join pg_namespace s on s.oid = c.relnamespace",
        f"        where c.relname in ({', '.join(repr(name) for name in APPEND_ONLY)}) and s.nspname <> '{schema}'",
        "    loop",
        "        raise exception 'schema % has a table % as well, which can pass for the ledger''s; %',",
        "            found.nspname, found.relname, remedy;",
        "    end loop;",
        "end $$;",
    ]
