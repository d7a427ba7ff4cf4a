"""Access to a broker: its address, the TLS checks and credentials, and the meaning of refusals.

A refusal is an error that soon retrying does not help against: a wrong password, a certificate that is not trusted.
Files are read for each attempt, so that a renewed certificate takes effect without a restart.
"""

from __future__ import annotations

import re
import socket
import ssl
import stat
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

from device.config.secret_file import read_secret, secret_file
from device.config.settings import MqttSettings
from device.errors import TransportError, UsageError

CREDENTIAL, SECRET_CREDENTIAL = "mqtt-password", "mqtt-commands-secret"  # name for systemd's LoadCredential
_PORT, _TLS_PORT = 1883, 8883
_MAX_PASSWORD_BYTES = 65_535  # MQTT's own limit
_ALERT = re.compile(r"\[SSL: \w*ALERT_(\w+)\]|(certificate required)")
# OpenSSL's X509_V_ERR numbers.
_NOT_YET_VALID, _EXPIRED, _WRONG_NAMES = 9, 10, (62, 64)


@dataclass(frozen=True, slots=True)
class ConnectionEnd:
    """Why there is no connection; `refused` if the same attempt would soon fail the same way."""

    refused: bool
    error: TransportError


@dataclass(frozen=True, slots=True)
class Access:
    """Everything that an attempt needs. Paths need not exist before it."""

    host: str
    port: int
    client_id: str
    keepalive_s: int
    tls: bool = False
    ca_file: Path | None = None
    client_cert_file: Path | None = None
    client_key_file: Path | None = None
    username: str = ""
    password_file: Path | None = None
    secret_file: Path | None = None  # for signing commands

    @property
    def where(self) -> str:
        return f"MQTT broker {self.host}:{self.port}"

    def context(self) -> ssl.SSLContext:
        """TLS 1.2 or newer, checking the broker's certificate. Raises TransportError for unusable files."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if self.ca_file:
            _load(self.ca_file, "certificate of an authority", lambda: context.load_verify_locations(self.ca_file))
        else:
            context.load_default_certs()
        if self.client_cert_file:
            certificate, key = self.client_cert_file, self.client_key_file
            # Without a password argument, OpenSSL would ask for one on the terminal.
            _load(certificate, "certificate with its key", lambda: context.load_cert_chain(certificate, key, ""))
        return context

    def password(self) -> str | None:
        """The password from its file or credential; None without one. Raises TransportError."""
        if not self.username or self.password_file is None:
            return None
        remedy = f"Put the password of the MQTT user {self.username} there, readable for avdrift only"
        return read_broker_secret(self.password_file, _MAX_PASSWORD_BYTES, "password", remedy)

    def warnings(self) -> list[TransportError]:
        """Security warnings about these settings, each with its remedy."""
        found = []
        if self.username and self.password_file and not self.tls and not _is_local(self.host):
            what = "the password goes over the network as plain text"
            found.append(_fault(self, what, "Use a TLS listener of the broker, and set tls = true under [mqtt]"))
        for file, what in ((self.password_file, "password"), (self.secret_file, "secret for commands")):
            if file is not None and is_world_readable(file):
                what = f"others on this computer can read the {what}"
                found.append(TransportError(what, where=str(file), remedy=f"Remove that permission: chmod o-r {file}"))
        return found


def read_broker_secret(file: Path, max_bytes: int, what: str, remedy: str) -> str:
    """The same as `read_secret`, as a fault of the connection. Raises TransportError."""
    try:
        return read_secret(file, max_bytes, what, remedy)
    except UsageError as error:
        raise TransportError(error.what, where=error.where, remedy=error.remedy) from None


def is_world_readable(file: Path) -> bool:
    """Whether every user of this computer may read a file."""
    try:
        return bool(file.stat().st_mode & stat.S_IROTH)
    except OSError:
        return False


def _is_local(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def access(settings: MqttSettings, node: str, folder: Path) -> Access:
    """The configured access; relative paths start at `folder`."""

    def file(name: str) -> Path | None:
        return folder / name if name else None

    return Access(
        host=settings.host,
        port=int(settings.port) or (_TLS_PORT if settings.tls else _PORT),
        client_id=f"avdrift-{node}",
        keepalive_s=int(settings.keepalive_s),
        tls=settings.tls,
        ca_file=file(settings.ca_file),
        client_cert_file=file(settings.client_cert_file),
        client_key_file=file(settings.client_key_file),
        username=settings.username,
        password_file=secret_file(settings.password_file, folder, CREDENTIAL),
        secret_file=command_secret_file(settings, folder),
    )


def command_secret_file(settings: MqttSettings, folder: Path) -> Path | None:
    """The file of the shared secret; None if commands need none. Relative paths start at `folder`."""
    return secret_file(settings.commands_secret_file, folder, SECRET_CREDENTIAL)


def node_name(settings: MqttSettings) -> str:
    """The device's name in topics: as configured, otherwise the host's name, made safe for a topic level."""
    host = socket.gethostname().partition(".")[0]
    return settings.node or re.sub(r"[^A-Za-z0-9_-]", "-", host)[:64] or "avdrift"


def _load(file: Path, what: str, load: Callable[[], None]) -> None:
    try:
        load()
    except (OSError, ValueError) as error:  # SSLError is an OSError
        reason = "not a PEM file of that kind, or its key does not fit or is encrypted"
        reason = reason if isinstance(error, ssl.SSLError) or not isinstance(error, OSError) else str(error.strerror)
        remedy = "Give readable files in PEM form, the key without a password"
        raise TransportError(f"no {what} ({reason})", where=str(file), remedy=remedy) from error


def explained(error: Exception, access: Access) -> ConnectionEnd:
    """Explain an exception of an attempt or of a connection."""
    if isinstance(error, TransportError):
        return ConnectionEnd(True, error)
    if isinstance(error, ssl.SSLCertVerificationError):
        return ConnectionEnd(True, _untrusted(error, access))
    if isinstance(error, ssl.SSLError):
        return tls_refusal(str(error), access) or ConnectionEnd(
            True, _fault(access, f"TLS failed ({error.reason or error})", "Check that this port speaks TLS")
        )
    if isinstance(error, socket.gaierror):
        what = f"the name {access.host} cannot be resolved ({error.strerror})"
        return ConnectionEnd(False, _fault(access, what, "Check host under [mqtt], and the network"))
    if not isinstance(error, OSError):
        what = f"sent something that is not MQTT 5 ({type(error).__name__})"
        return ConnectionEnd(False, _fault(access, what, "Check that host and port under [mqtt] are a broker's"))
    reason = "no answer" if isinstance(error, TimeoutError) else error.strerror or str(error)
    remedy = "Check that the broker runs and that host and port under [mqtt] are right"
    return ConnectionEnd(False, _fault(access, f"cannot be reached ({reason or type(error).__name__})", remedy))


def tls_refusal(text: str, access: Access) -> ConnectionEnd | None:
    """Explain the broker's alert in a message of OpenSSL; None without one."""
    if "WRONG_VERSION_NUMBER" in text:
        what, remedy = "this port does not speak TLS", "Give the port of the broker's TLS listener, or set tls = false"
        return ConnectionEnd(True, _fault(access, what, remedy))
    if not (match := _ALERT.search(text)):
        return None
    alert = (match[1] or match[2]).lower().replace("_", " ")
    if access.client_cert_file:
        what = f"refused the certificate {access.client_cert_file} ({alert})"
        return ConnectionEnd(
            True, _fault(access, what, "Give one that is valid today and signed by an authority it trusts")
        )
    what = f"refused the connection ({alert})"
    remedy = "If it asks for certificates, give client_cert_file and client_key_file under [mqtt]"
    return ConnectionEnd(True, _fault(access, what, remedy))


def broker_refusal(name: str, access: Access) -> ConnectionEnd:
    """Explain the name of an MQTT 5 reason code in CONNACK or DISCONNECT."""
    match name:
        case "Bad user name or password" | "Not authorized" | "Bad authentication method":
            user = f"the user {access.username}" if access.username else "somebody without a user name"
            what = f"does not let {user} in ({name.lower()})"
            return ConnectionEnd(True, _fault(access, what, _login_remedy(access)))
        case "Unsupported protocol version":
            remedy = "Use a broker that does, such as mosquitto 1.6 or newer"
            return ConnectionEnd(True, _fault(access, "does not speak MQTT 5", remedy))
        case "Session taken over":
            what = f"another client calls itself {access.client_id}, too"
            return ConnectionEnd(True, _fault(access, what, "Give each device a node of its own under [mqtt]"))
        case "Client identifier not valid" | "Banned" | "Use another server" | "Server moved":
            what = f"refused the client {access.client_id} ({name.lower()})"
            return ConnectionEnd(True, _fault(access, what, "Ask the administrator of the broker"))
        case _:
            return ConnectionEnd(
                False, _fault(access, f"ended the connection ({name.lower()})", "Check the broker's log")
            )


def _login_remedy(access: Access) -> str:
    if not access.username:
        return "Give username under [mqtt], and its password"
    if not access.password_file:
        return f"Give the password of {access.username}, as password_file under [mqtt] or as the service's credential"
    return f"Check username and the password in {access.password_file}"


def _untrusted(error: ssl.SSLCertVerificationError, access: Access) -> TransportError:
    if error.verify_code == _EXPIRED:
        what, remedy = "its certificate has expired", "Renew it, or set this computer's clock right"
    elif error.verify_code == _NOT_YET_VALID:
        what, remedy = "its certificate is not valid yet", "Wait for this computer's clock to be set, or set it right"
    elif error.verify_code in _WRONG_NAMES:
        what, remedy = f"its certificate is not for {access.host}", "Give host as the certificate names it"
    else:
        what = f"its certificate is not trusted ({error.verify_message})"
        remedy = "Give the certificate of the authority that signed it as ca_file under [mqtt]"
        if access.ca_file:
            remedy += f"; {access.ca_file} is another one's"
    return _fault(access, what, remedy)


def _fault(access: Access, what: str, remedy: str) -> TransportError:
    return TransportError(what, where=access.where, remedy=remedy)
