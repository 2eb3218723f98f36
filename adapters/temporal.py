"""Where Temporal is, and what it must know before it can keep cases."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from temporalio.api.enums.v1 import IndexedValueType
from temporalio.api.operatorservice.v1 import AddSearchAttributesRequest, ListSearchAttributesRequest
from temporalio.client import Client
from temporalio.common import SearchAttributeKey
from temporalio.converter import DataConverter
from temporalio.envconfig import ClientConfig
from temporalio.service import RPCError, RPCStatusCode

from adapters.codec import data_converter
from adapters.settings import Settings

LOCAL = "localhost:7233"
"""Where Temporal is when no setting names another place."""

_WITHIN = timedelta(seconds=10)


async def connect(*, lazy: bool = True, converter: DataConverter | None = None) -> Client:
    """Return a client for the SDK's own environment configuration (TEMPORAL_ADDRESS, TEMPORAL_NAMESPACE, TLS…).

    Args:
        converter: of payloads; the installation's own, which encrypts, when not given.
        lazy: do not connect before the first call, so that the doors open while Temporal is away.

    Raises:
        SettingsInvalid: no payload keys, and nobody switched encryption off.
    """
    converter = converter or data_converter(Settings())
    config: dict[str, Any] = dict(ClientConfig.load_client_connect_config())
    config.setdefault("target_host", LOCAL)
    return await Client.connect(**config, data_converter=converter, lazy=lazy)


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
