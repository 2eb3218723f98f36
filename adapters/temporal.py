"""Where Temporal is, and what it must know before it can keep cases."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from temporalio.api.enums.v1 import IndexedValueType
from temporalio.api.operatorservice.v1 import AddSearchAttributesRequest, ListSearchAttributesRequest
from temporalio.client import Client
from temporalio.common import SearchAttributeKey
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.envconfig import ClientConfig
from temporalio.service import RPCError, RPCStatusCode

_LOCAL = "localhost:7233"
_WITHIN = timedelta(seconds=10)


async def connect(*, lazy: bool = True) -> Client:
    """Return a client for the SDK's own environment configuration (TEMPORAL_ADDRESS, TEMPORAL_NAMESPACE, TLS…).

    Args:
        lazy: do not connect before the first call, so that the doors open while Temporal is away.
    """
    config: dict[str, Any] = dict(ClientConfig.load_client_connect_config())
    config.setdefault("target_host", _LOCAL)
    return await Client.connect(**config, data_converter=pydantic_data_converter, lazy=lazy)


async def registered_search_attributes(client: Client) -> set[str]:
    """Return the names of the namespace's custom search attributes."""
    request = ListSearchAttributesRequest(namespace=client.namespace)
    answer = await client.operator_service.list_search_attributes(request, timeout=_WITHIN)
    return set(answer.custom_attributes)


async def register_search_attributes(client: Client, keys: Sequence[SearchAttributeKey[Any]]) -> None:
    """Let the namespace know the search attributes that it lacks; safe to do at every start."""
    try:
        present = await registered_search_attributes(client)
    except RPCError as error:
        if error.status is not RPCStatusCode.UNIMPLEMENTED:
            raise
        present = set()  # the time-skipping test server cannot list
    missing = {
        key.name: IndexedValueType.ValueType(int(key.indexed_value_type))
        for key in keys
        if key.name not in present
    }
    if not missing:
        return
    request = AddSearchAttributesRequest(namespace=client.namespace, search_attributes=missing)
    try:
        await client.operator_service.add_search_attributes(request, timeout=_WITHIN)
    except RPCError as error:
        if error.status is not RPCStatusCode.ALREADY_EXISTS:
            raise
