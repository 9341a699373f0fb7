#!/bin/sh
# Makes sure that a real OpenSSH server is there for the SFTP tests; installs Debian's package where it may.
set -eu
found() {
    PATH="$PATH:/usr/sbin:/usr/local/sbin"
    command -v sshd >/dev/null 2>&1 && command -v ssh-keygen >/dev/null 2>&1
}

found && exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    echo "setup: installing openssh-server for the SFTP tests"
    log=$(mktemp)
    # policy-rc.d keeps the package from starting a server on port 22: the tests start their own on loopback.
    policy=/usr/sbin/policy-rc.d
    if [ -e "$policy" ]; then
        trap 'rm -f "$log"' EXIT
    else
        trap 'rm -f "$log" "$policy"' EXIT
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod 755 "$policy"
    fi
    { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends \
        openssh-server openssh-client; } >"$log" 2>&1 || cat "$log" >&2
fi
found && exit 0
echo "setup: the SFTP tests need a real sshd; install openssh-server and openssh-client (apt-get install openssh-server openssh-client)" >&2
exit 1
