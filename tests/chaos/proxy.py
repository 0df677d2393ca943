"""A TCP proxy whose network can be made to fail: connections reset and refused, slow, or silent for ever."""

import asyncio
import contextlib
import threading
from typing import Self

MODES = ("drop", "delay", "half_open")
DELAY_S = 0.3


class Proxy:
    """127.0.0.1:port to 127.0.0.1:target, in a thread with a loop of its own.

    ``mode`` None passes on. "drop" resets what is open and refuses what comes; "delay" holds every chunk for .3 s;
    "half_open" swallows bytes both ways, as when a cable is cut, and resets what was open when it ends.
    """

    def __init__(self, port: int, target: int) -> None:
        self.port, self.address = port, f"127.0.0.1:{port}"
        self.passed = self.swallowed = self.refused = self.reset = 0  # chunks, chunks, connections, connections
        self._target = target
        self._mode: str | None = None
        self._open: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name=f"proxy {port}", daemon=True)

    def __enter__(self) -> Self:
        asyncio.set_event_loop(None)
        self._server = self._loop.run_until_complete(asyncio.start_server(self._serve, "127.0.0.1", self.port))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(10.0)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10.0)
        self._loop.close()

    def fail(self, mode: str | None) -> None:
        """From now on, until told otherwise."""
        asyncio.run_coroutine_threadsafe(self._become(mode), self._loop).result(10.0)

    def _run(self) -> None:
        self._loop.run_forever()

    async def _close(self) -> None:
        self._server.close()
        self._reset()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _become(self, mode: str | None) -> None:
        if mode == "drop" or self._mode == "half_open":
            self._reset()
        self._mode = mode

    def _reset(self) -> None:
        self.reset += len(self._open)
        for writer in self._open:
            writer.transport.abort()
        self._open.clear()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._mode == "drop":
            self.refused += 1
            writer.transport.abort()
            return
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.transport.abort()
            return
        both = {writer, far_writer}
        self._open |= both
        try:
            await asyncio.gather(self._pass(reader, far_writer), self._pass(far_reader, writer))
        except asyncio.CancelledError:
            pass  # by _close; asyncio of Python 3.11 would print a traceback for each connection
        finally:
            self._open -= both
            for each in both:
                each.transport.abort()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while chunk := await reader.read(1 << 16):
                if self._mode == "half_open":
                    self.swallowed += 1
                    continue
                if self._mode == "delay":
                    await asyncio.sleep(DELAY_S)
                writer.write(chunk)
                await writer.drain()
                self.passed += 1
        writer.transport.abort()
