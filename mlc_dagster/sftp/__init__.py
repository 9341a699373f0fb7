"""SFTP connector: connection with pinned host keys, listing, download, upload, rename.

What belongs here: everything that speaks SFTP. What does not: which files are wanted, when they are settled, what was
read before (the intake's business), and reading secrets (values are passed in).
"""

from .connection import offered_host_keys
from .download import Download, DownloadRequest
from .errors import (
    FileChanged,
    FileTooLarge,
    FileVanished,
    HostKeyRejected,
    KeyUnreadable,
    LocalFileError,
    LoginRefused,
    NoCommonAlgorithm,
    NoSuchPath,
    PermissionRefused,
    PinUnreadable,
    PollDeadlineExceeded,
    QuestionAsked,
    ServerRefused,
    SftpError,
    SftpTimeout,
    TargetExists,
    Unreachable,
    UnsafeName,
)
from .keys import OfferedHostKey
from .listing import Listing, RemoteFile
from .session import SftpCredentials, SftpSession, open_session
from .upload import Progress, Uploaded

__all__ = [
    "Download",
    "DownloadRequest",
    "FileChanged",
    "FileTooLarge",
    "FileVanished",
    "HostKeyRejected",
    "KeyUnreadable",
    "Listing",
    "LocalFileError",
    "LoginRefused",
    "NoCommonAlgorithm",
    "NoSuchPath",
    "OfferedHostKey",
    "PermissionRefused",
    "PinUnreadable",
    "PollDeadlineExceeded",
    "Progress",
    "QuestionAsked",
    "RemoteFile",
    "ServerRefused",
    "SftpCredentials",
    "SftpError",
    "SftpSession",
    "SftpTimeout",
    "TargetExists",
    "Unreachable",
    "UnsafeName",
    "Uploaded",
    "offered_host_keys",
    "open_session",
]
