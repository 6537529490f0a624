"""The functions and resources of wasi:http, by name."""

from __future__ import annotations

from perdure.component.host import HostFunction
from perdure.wasi.http import bodies, exchanges, fields, incoming, outgoing

_TYPES = "wasi:http/types"

_NAMED: dict[str, HostFunction] = {
    "http-error-code": exchanges.http_error_code,
    "[constructor]fields": fields.new,
    "[static]fields.from-list": fields.from_list,
    "[method]fields.get": fields.get,
    "[method]fields.has": fields.has,
    "[method]fields.set": fields.set_values,
    "[method]fields.delete": fields.delete,
    "[method]fields.append": fields.append,
    "[method]fields.entries": fields.entries_of,
    "[method]fields.clone": fields.clone,
    "[constructor]outgoing-request": outgoing.new_request,
    "[method]outgoing-request.body": outgoing.body,
    "[method]outgoing-request.method": outgoing.method,
    "[method]outgoing-request.set-method": outgoing.set_method,
    "[method]outgoing-request.path-with-query": outgoing.path,
    "[method]outgoing-request.set-path-with-query": outgoing.set_path,
    "[method]outgoing-request.scheme": outgoing.scheme,
    "[method]outgoing-request.set-scheme": outgoing.set_scheme,
    "[method]outgoing-request.authority": outgoing.authority,
    "[method]outgoing-request.set-authority": outgoing.set_authority,
    "[method]outgoing-request.headers": outgoing.headers_of,
    "[constructor]request-options": outgoing.new_options,
    "[method]request-options.connect-timeout": outgoing.connect_timeout,
    "[method]request-options.set-connect-timeout": outgoing.set_connect_timeout,
    "[method]request-options.first-byte-timeout": outgoing.first_byte_timeout,
    "[method]request-options.set-first-byte-timeout": outgoing.set_first_byte_timeout,
    "[method]request-options.between-bytes-timeout": outgoing.between_bytes_timeout,
    "[method]request-options.set-between-bytes-timeout": outgoing.set_between_bytes_timeout,
    "[constructor]outgoing-response": outgoing.new_response,
    "[method]outgoing-response.status-code": outgoing.status,
    "[method]outgoing-response.set-status-code": outgoing.set_status,
    "[method]outgoing-response.headers": outgoing.headers_of,
    "[method]outgoing-response.body": outgoing.body,
    "[method]outgoing-body.write": bodies.write,
    "[static]outgoing-body.finish": bodies.finish_outgoing,
    "[method]future-incoming-response.subscribe": exchanges.subscribe,
    "[method]future-incoming-response.get": exchanges.get,
    "[method]incoming-request.method": incoming.method,
    "[method]incoming-request.path-with-query": incoming.path,
    "[method]incoming-request.scheme": incoming.scheme,
    "[method]incoming-request.authority": incoming.authority,
    "[method]incoming-request.headers": incoming.headers_of,
    "[method]incoming-request.consume": incoming.consume,
    "[method]incoming-response.status": incoming.status,
    "[method]incoming-response.headers": incoming.headers_of,
    "[method]incoming-response.consume": incoming.consume,
    "[method]incoming-body.stream": bodies.stream,
    "[static]incoming-body.finish": bodies.finish_incoming,
    "[method]future-trailers.subscribe": bodies.subscribe_trailers,
    "[method]future-trailers.get": bodies.get_trailers,
    "[static]response-outparam.set": incoming.set_response,
}

FUNCTIONS: dict[tuple[str, str], HostFunction] = {
    ("wasi:http/outgoing-handler", "handle"): exchanges.handle,
    **{(_TYPES, name): function for name, function in _NAMED.items()},
}

DROPS: dict[tuple[str, str], HostFunction] = {
    (_TYPES, "outgoing-request"): outgoing.drop,
    (_TYPES, "outgoing-response"): outgoing.drop,
    (_TYPES, "outgoing-body"): bodies.drop_outgoing,
    (_TYPES, "incoming-request"): incoming.drop,
    (_TYPES, "incoming-response"): incoming.drop,
    (_TYPES, "incoming-body"): bodies.drop_incoming,
    (_TYPES, "future-incoming-response"): exchanges.drop,
}
