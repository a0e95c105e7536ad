"""Why PostgreSQL lets nobody in, in words, with what to do.

libpq gives no codes for what fails before a session begins, only English text (its own, from
`fe-connect.c` and `fe-secure-openssl.c`, or the server's, from `auth.c`). It is looked for here and
nowhere else; what is not known is shown as it came.
"""

from __future__ import annotations

import psycopg

from orchestrator.errors import StartRefused

_TLS = (
    (
        ("certificate verify failed",),
        "its certificate comes from none of the authorities in sslrootcert, or has expired; "
        "give the authority that signed it as sslrootcert in {setting}, or renew it "
        "(orchestrator doctor shows until when it is valid)",
    ),
    (
        ("server certificate for", "does not match host name"),
        "its certificate is for another name; name the host in {setting} as its certificate does",
    ),
    (
        ("root certificate file", "does not exist"),
        "there is nothing to check its certificate with; give the authorities' file as "
        "sslrootcert in {setting}",
    ),
    (
        ("could not read root certificate file",),
        "sslrootcert holds no certificates (PEM); give the authorities' file in {setting}",
    ),
    (
        ("no pg_hba.conf entry", "no encryption"),
        "it lets nobody in without TLS; end {setting} in "
        "?sslmode=verify-full&sslrootcert=/path/of/authorities.pem",
    ),
    (
        ("server does not support SSL",),
        "it speaks no TLS, which sslmode in {setting} demands; turn ssl on at the server (and do "
        "not take sslmode away: facts would cross the network in the clear)",
    ),
    (
        ("valid client certificate",),
        "it wants a certificate of ours; give sslcert and sslkey in {setting}",
    ),
    (
        ("certificate required",),
        "it wants a certificate of ours; give sslcert and sslkey in {setting}",
    ),
    (
        ("private key file", "has group or world access"),
        "the key that sslkey in {setting} names is open to others; chmod 600",
    ),
)
_MORE = (
    (("password authentication failed",), "check user and password in {setting}"),
    (("Connection refused",), "start the server, or check host and port in {setting}"),
    (("could not translate host name",), "check the host in {setting} and the name service"),
    (("no pg_hba.conf entry",), "its access rules (pg_hba.conf) do not name this user or machine"),
)

ANSWER_SECONDS = 5


def advice(text: str, setting: str = "DATABASE_URL") -> str | None:
    """What to do about an error of libpq; None where its words are not known."""
    for marks, words in (*_TLS, *_MORE):
        if all(mark in text for mark in marks):
            return words.format(setting=setting)
    return None


def trouble_of_tls(text: str, setting: str) -> str | None:
    """Only what waiting does not mend: the two sides do not agree how they speak."""
    for marks, words in _TLS:
        if all(mark in text for mark in marks):
            return words.format(setting=setting)
    return None


async def refuse_if_not_admitted(url: str, setting: str = "DATABASE_URL") -> None:
    """Raises StartRefused where TLS is what stands between us and the server. One that is down, or
    whose database or user is not made yet, is no reason: it is waited for."""
    plain = url.replace("postgresql+psycopg://", "postgresql://", 1)
    try:
        link = await psycopg.AsyncConnection.connect(plain, connect_timeout=ANSWER_SECONDS)
    except (psycopg.Error, OSError) as error:
        trouble = trouble_of_tls(str(error), setting)
        if trouble is not None:
            raise StartRefused(f"PostgreSQL does not let this process in: {trouble}") from None
    else:
        await link.close()


def told(error: BaseException) -> str | None:
    """One line for a command that could not reach its database; None for any other error."""
    cause = getattr(error, "orig", error)
    if not isinstance(cause, psycopg.OperationalError):
        return None
    text = str(cause).strip()
    known = advice(text)
    return f"PostgreSQL: {text.partition(chr(10))[0]}" + (f"; {known}" if known else "")
