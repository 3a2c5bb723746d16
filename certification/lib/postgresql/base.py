"""The backend itself, under the name that Django's ENGINE setting asks for."""

from __future__ import annotations

import select
from datetime import UTC
from typing import Any

import psycopg
from django.db.backends.postgresql import base
from psycopg_pool import ConnectionPool, PoolTimeout

from certification.lib.postgresql import patience, replica, times


class DatabaseWrapper(base.DatabaseWrapper):
    """Django's own, with patient connections in its pool and a quick reader of times."""

    def get_connection_params(self) -> dict[str, Any]:
        params: dict[str, Any] = super().get_connection_params()
        if self.timezone == UTC:
            params["context"] = times.adapters(params["context"])
        return params

    @property
    def connection_class(self) -> type[patience.PatientConnection]:
        is_replica = self.alias == replica.REPLICA
        return patience.ReplicaConnection if is_replica else patience.PatientConnection

    @property
    def pool(self) -> ConnectionPool[Any] | None:
        options = self.settings_dict["OPTIONS"].get("pool")
        if options:
            options.setdefault("connection_class", self.connection_class)
            # Attempts to connect are further and further apart: begin anew rather than wait long
            # when the server is back.
            options.setdefault("reconnect_timeout", 3)
            if patience.is_limited():
                options["timeout"] = patience.POOL_S
        pool: ConnectionPool[Any] | None = super().pool
        return pool

    def get_new_connection(self, conn_params: dict[str, Any]) -> Any:
        """Return a connection that works; where waits are limited, fail at once while the server is
        known to be silent.
        """
        while True:
            connection = self.connection_of_pool(conn_params)
            if not is_lost(connection):
                return connection
            if self.pool is not None:
                self.pool.putconn(connection)  # which replaces it

    def connection_of_pool(self, conn_params: dict[str, Any]) -> Any:
        if not patience.is_limited():
            return super().get_new_connection(conn_params)
        greeting = self.connection_class.greeting()
        if greeting.was_silent:
            raise self.Database.OperationalError(patience.MESSAGE)
        try:
            return super().get_new_connection(conn_params)
        except PoolTimeout:
            # all connections in use, or no server? the next callers need to know
            greeting.fails(conn_params.get("host", ""), conn_params.get("port", ""))
            raise


def is_lost(connection: psycopg.Connection[Any]) -> bool:
    """Check that the server has ended a connection that nobody used, and close it then.

    A server that ends one says so: only a connection with something to read is asked. A question to
    each, as Django's own health check, would be a fifth of a cached answer.
    """
    if connection.closed:
        return True
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN)
    if not poll.poll(0):
        return False
    try:
        connection.execute("")
    except psycopg.Error:
        connection.close()
        return True
    return False
