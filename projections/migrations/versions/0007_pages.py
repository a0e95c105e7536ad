"""Indexes for every filter of the list, each in the order of its pages.

A filter that one account or one reference may fill (a busy account, a fiatRef that is always the
same) must find its page in the index: a hash index finds the rows, and then all have to be sorted.
B-trees refuse entries above 2.7 kB, and one such text would stop the projection: hence `left`.
"""

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

TEXTS = {"requests_user": "lower(user_address)", "requests_fiat_ref": "fiat_ref"}
PAGES = {
    "requests_stage_page": "stage",
    "requests_type_page": "type",
    "requests_chain_status_page": "chain_id, status",
}


def upgrade() -> None:
    for name, column in TEXTS.items():
        op.execute(f"DROP INDEX {name}")
        op.execute(
            f"CREATE INDEX {name} ON requests (left({column}, 200), created_at, request_key)"
        )
    for name, columns in PAGES.items():
        op.execute(f"CREATE INDEX {name} ON requests ({columns}, created_at, request_key)")


def downgrade() -> None:
    for name in PAGES:
        op.execute(f"DROP INDEX {name}")
    for name, column in TEXTS.items():
        op.execute(f"DROP INDEX {name}")
        op.execute(f"CREATE INDEX {name} ON requests USING hash ({column})")
