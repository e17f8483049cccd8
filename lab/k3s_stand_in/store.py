"""The objects, as JSON in SQLite: a change is one transaction, so a kill loses nothing that was answered."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .kinds import Kind, Object

SCHEMA = """
CREATE TABLE IF NOT EXISTS objects (
  resource TEXT, namespace TEXT, name TEXT, body TEXT NOT NULL, PRIMARY KEY (resource, namespace, name)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS counter (revision INTEGER NOT NULL);
INSERT INTO counter SELECT 0 WHERE NOT EXISTS (SELECT * FROM counter);
"""


class Store:
    """One connection behind one lock: the clusters it holds are small."""

    def __init__(self, file: Path) -> None:
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._lock = threading.RLock()
        self._depth = 0
        self._database = sqlite3.connect(file, isolation_level=None, check_same_thread=False)
        self._database.execute("PRAGMA journal_mode = WAL")
        self._database.execute("PRAGMA synchronous = NORMAL")
        self._database.executescript(SCHEMA)
        file.chmod(0o600)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing; transactions inside join the outer one."""
        with self._lock:
            if self._depth == 0:
                self._database.execute("BEGIN IMMEDIATE")
            self._depth += 1
            try:
                yield
            except BaseException:
                self._depth -= 1
                if self._depth == 0:
                    self._database.execute("ROLLBACK")
                raise
            self._depth -= 1
            if self._depth == 0:
                self._database.execute("COMMIT")

    def revision(self) -> int:
        with self._lock:
            return int(self._database.execute("SELECT revision FROM counter").fetchone()[0])

    def get(self, kind: Kind, namespace: str, name: str) -> Object | None:
        query = "SELECT body FROM objects WHERE resource = ? AND namespace = ? AND name = ?"
        with self._lock:
            row = self._database.execute(query, (kind.resource, namespace, name)).fetchone()
        return json.loads(row[0]) if row else None

    def list(self, kind: Kind, namespace: str | None = None) -> list[Object]:
        """Objects by namespace and name; no namespace means all of them."""
        query = "SELECT body FROM objects WHERE resource = ? AND namespace = ifnull(?, namespace)"
        with self._lock:
            rows = self._database.execute(
                query + " ORDER BY namespace, name", (kind.resource, namespace)
            ).fetchall()
        return [json.loads(row[0]) for row in rows]

    def put(self, kind: Kind, body: Object) -> None:
        """Insert or replace, and stamp the new resourceVersion into `body`."""
        with self.transaction():
            self._database.execute("UPDATE counter SET revision = revision + 1")
            meta = body["metadata"]
            meta["resourceVersion"] = str(self.revision())
            row = (kind.resource, meta.get("namespace", ""), meta["name"], json.dumps(body))
            self._database.execute("INSERT OR REPLACE INTO objects VALUES (?, ?, ?, ?)", row)

    def delete(self, kind: Kind, namespace: str, name: str) -> None:
        query = "DELETE FROM objects WHERE resource = ? AND namespace = ? AND name = ?"
        with self.transaction():
            self._database.execute("UPDATE counter SET revision = revision + 1")
            self._database.execute(query, (kind.resource, namespace, name))
