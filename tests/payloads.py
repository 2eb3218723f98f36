"""Encrypted installations for tests, and what Temporal really keeps of them."""

from collections.abc import Iterator
from datetime import date

from google.protobuf.message import Message
from temporalio.api.common.v1 import Payload, SearchAttributes
from temporalio.client import Client, WorkflowHistory
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.converter import DataConverter
from temporalio.testing import WorkflowEnvironment

from adapters.codec import encrypting
from adapters.keys import AES_256_GCM, DEFAULT, Keys, new_line

MADE_ON = date(2026, 3, 4)


def fresh_key(use: str = DEFAULT, algorithm: str = AES_256_GCM) -> str:
    """Return a key as a line of a key file."""
    return new_line(algorithm, use, MADE_ON)


def key_id(line: str) -> str:
    """Return the name of a key."""
    return line.split(maxsplit=1)[0]


def used_for(line: str, use: str) -> str:
    """Return the same key for another use."""
    return " ".join([*line.split()[:3], use])


async def encrypted(server: WorkflowEnvironment, *lines: str) -> WorkflowEnvironment:
    """Return the same server as an installation with these keys meets it."""
    return await _through(server, encrypting(Keys("\n".join(lines))))


async def bare(server: WorkflowEnvironment) -> Client:
    """Return a client that sees what Temporal keeps, and nothing more."""
    return (await _through(server, pydantic_data_converter)).client


async def _through(server: WorkflowEnvironment, converter: DataConverter) -> WorkflowEnvironment:
    address = server.client.service_client.config.target_host
    client = await Client.connect(address, namespace=server.client.namespace, data_converter=converter)
    return WorkflowEnvironment.from_client(client)


def payloads_of(message: Message) -> Iterator[Payload]:
    """Every payload of a message, however deep, but search attributes, which are never encrypted."""
    if isinstance(message, Payload):
        yield message
    if isinstance(message, Payload | SearchAttributes):
        return
    for field, value in message.ListFields():
        if field.message_type is None:
            continue
        if field.message_type.GetOptions().map_entry:
            values = [each for each in value.values() if isinstance(each, Message)]
        else:
            values = [value] if isinstance(value, Message) else list(value)
        for each in values:
            yield from payloads_of(each)


def raw(history: WorkflowHistory) -> bytes:
    """Return a history as it lies in Temporal's database."""
    return b"\n".join(event.SerializeToString() for event in history.events)
