"""Ends a process after an error that it cannot retry: at once, without committing.

A partition's next owner finds everything it needs in Kafka, so the safest thing a worker can do after a lost
delivery or a bug is to stop before anything else is sent.
"""

import asyncio
import logging
import os
import traceback
from collections.abc import Coroutine
from typing import Any, NoReturn

from aiokafka.errors import GroupAuthorizationFailedError, KafkaError, TopicAuthorizationFailedError

from app.errors import AnomalyError

EXIT_CODE = 70  # EX_SOFTWARE of sysexits.h
DENIED = (TopicAuthorizationFailedError, GroupAuthorizationFailedError)

log = logging.getLogger(__name__)


def stop_process(error: BaseException) -> NoReturn:
    """Log the reason, then end without any clean-up."""
    log.critical("stopping without a commit: %s", describe(error))
    logging.shutdown()
    os._exit(EXIT_CODE)


def describe(error: BaseException) -> str:
    """What an operator needs to know: a sentence, or the whole traceback of an unexpected error."""
    if isinstance(error, DENIED):
        return f"{error}: this user's permissions have changed: `faust-anomaly topics` says which one is missing"
    if isinstance(error, AnomalyError | KafkaError):
        return str(error)
    return "".join(traceback.format_exception(error))


def guard(work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
    """A task whose failure ends the process; it may be cancelled."""

    async def guarded() -> None:
        try:
            await work
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # noqa: BLE001 - nobody awaits this task, so only the process can report it
            stop_process(error)

    return asyncio.create_task(guarded(), name=name)
