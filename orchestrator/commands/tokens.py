"""`orchestrator token`: a bearer token for the HTTP API, shown once."""

from __future__ import annotations

import re
from typing import Annotated

import typer

from orchestrator.tokens import Scope, Token, new_token, sha256_of


def token(
    name: Annotated[str, typer.Argument(help="Whose token it is: A-Z a-z 0-9 . _ -")],
    scope: Annotated[
        Scope, typer.Option(help="read: all of the API's answers; operate: its orders as well.")
    ] = Scope.READ,
) -> None:
    """Make a bearer token for the HTTP API. It is printed once and kept nowhere; what is to be
    configured is its hash."""
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,64}", name):
        raise typer.BadParameter("give 1 to 64 of A-Z a-z 0-9 . _ -", param_hint="NAME")
    made = new_token()
    typer.echo("The token, shown this once (send it as `Authorization: Bearer <token>`):", err=True)
    typer.echo(made)
    typer.echo("Add this entry to API_TOKENS or to the file of API_TOKENS_FILE:", err=True)
    typer.echo(Token(name, scope, sha256_of(made)).entry())
