"""Providers: implementations of the Store contract (`perdure.durable.store`). They do not know each other."""
