"""Heartbeat between the processes of one job: finds the one that died, hangs or makes no progress, and names it.

Process 0 is the hub; each other process holds one TCP connection to it. Lines of JSON, no TensorFlow, one thread.
"""

import contextlib
import json
import socket
import statistics
import sys
import threading
import time
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional, Tuple

from dnnlib.util import UserError

LONGEST_LINE = 1 << 20      # bytes; whoever sends more than this without a line end is no heartbeat
POLL = 0.1                  # seconds between two looks at the connections
WARM_UP = 8                 # steps that may take long: graphs are built, kernels are chosen
LINGER = 2                  # seconds, so that a last message gets through


class Limits(NamedTuple):
    """Seconds. `silence` and `patience` together with a little travel stay below half a minute."""

    beat: float = 1         # between two signs of life
    silence: float = 15     # a process not heard of for so long hangs (or its machine or network is gone)
    patience: float = 15    # a process whose steps stand still for so long while another waits for it hangs
    start: float = 900      # the same for its first steps
    wait: float = 300       # for all processes to show up
    leave: float = 10       # a process that has finished waits so long for the others to finish too


class _Peer:
    """Another process: a connection that carries JSON objects, one a line, and never blocks; what its beats said."""

    def __init__(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        self._socket, self._received = connection, b''
        self.open, self.garbled = True, False
        self.progress: Any = None           # steps begun, and what it is doing
        self._update()

    def _update(self, steps: int = 0, patience: float = 1e9, doing: str = '', left: bool = False,
                over: bool = False) -> None:
        progress = int(steps), str(doing)
        if not 0 <= patience <= 1e9:
            raise ValueError(patience)
        if progress != self.progress:
            self.progress, self.behind_since = progress, time.monotonic()
        (self.steps, self.doing), self.patience, self.left, self.over = progress, patience, left, over
        self.heard = time.monotonic()

    def send(self, **message: Any) -> None:
        with contextlib.suppress(OSError):      # a broken line may hold messages to read; a full one nobody reads
            self._socket.send(json.dumps(message).encode() + b'\n')

    def receive(self) -> List[Dict[str, Any]]:
        """All messages that have arrived; `open` turns False when the connection breaks or carries something else."""
        try:
            while self.open and len(self._received) <= LONGEST_LINE:
                data = self._socket.recv(1 << 16)
                self.open = bool(data)
                self._received += data
        except BlockingIOError:
            pass
        except OSError:
            self.open = False
        *lines, self._received = self._received.split(b'\n')
        try:
            messages = [dict(json.loads(line.decode())) for line in lines]
            for message in messages:
                if 'beat' in message:
                    self._update(**message['beat'])
            self.garbled |= len(self._received) > LONGEST_LINE
        except (ArithmeticError, ValueError, TypeError, RecursionError):
            self.garbled = True
        self.open &= not self.garbled           # it can still be told
        return [] if self.garbled else messages

    def close(self) -> None:
        self.open = False
        self._socket.close()


class Heartbeat:
    """Watches over processes that work in lock-step: `connect`, then `step` before each thing done together, `close`.

    names: of all processes, as messages shall show them; the same list everywhere. index: this one; 0 is the hub.
    address: (host, port) where the hub listens. on_lost(message): called in the watching thread when a process is
    lost; it must end this process, which may hang in a call that never returns.
    Anyone who reaches the hub's port can take part: for trusted networks, as TensorFlow's own servers.
    """

    def __init__(self, names: List[str], index: int, address: Tuple[str, int], on_lost: Callable[[str], None],
                 limits: Optional[Limits] = None) -> None:
        self.names, self.index, self.address = list(names), index, address
        self.limits, self._on_lost = limits or Limits(), on_lost
        self.steps = 0
        self._doing, self._allowed = '', 0.0
        self._gaps: List[float] = []                        # seconds between steps, the last 64
        self._left, self._failure, self._verdict = False, '', ''
        self._callers: List[_Peer] = []                     # connections, of the hub
        self._peers: Dict[int, _Peer] = {}
        self._facts: Dict[int, Any] = {}
        self._everyone: List[Any] = []                      # the facts of all, once they are known
        self._begun = self._last_step = time.monotonic()
        self._thread = threading.Thread(target=self._watch, name='heartbeat', daemon=True)

    # What the main program calls.

    def connect(self, facts: Any) -> List[Any]:
        """Wait until all processes are there and keep watching; returns the `facts` of all of them, in order.

        facts: anything JSON can hold. Prints a line every ten seconds. Raises UserError when somebody does not show
        up in time, when the hub's port is taken, or when two processes say they are the same one.
        """
        self._facts[self.index] = facts
        self._server = _listen(self.address) if self.index == 0 else None
        self._begun = told = time.monotonic()
        self._thread.start()
        while self._thread.is_alive() and not self._everyone:
            self.wait(POLL / 2)
            if time.monotonic() - told >= 10 and not self._everyone:
                told = time.monotonic()
                print(f'waiting for {self._missing()} ({told - self._begun:.0f} of {self.limits.wait:g} s)',
                      file=sys.stderr, flush=True)
        if not self._everyone:
            raise UserError(self._verdict)
        self._last_step = time.monotonic()
        return self._everyone

    def step(self) -> None:
        """Say that this process has arrived at its next common step; the others must arrive in time."""
        now = time.monotonic()
        self._gaps = self._gaps[-63:] + [now - self._last_step]
        self._last_step = now
        self.steps += 1

    @contextlib.contextmanager
    def allow(self, doing: str, seconds: float) -> Iterator[None]:
        """The others wait up to `seconds` while this process does something else, e.g. writes a file."""
        before = self._doing, self._allowed
        self._doing, self._allowed = doing, seconds
        try:
            yield
        finally:
            self._doing, self._allowed = before

    def close(self) -> None:
        """Leave because the work is done; waits a little for the others to finish theirs."""
        self._left = True
        self.wait(self.limits.leave)
        self.fail('')

    def fail(self, reason: str) -> None:
        """Leave because of an error, which the others will print."""
        self._failure = reason and f'{self.names[self.index]} stopped with an error: {reason}'
        self._verdict = self._verdict or self._failure or 'left'        # ends the thread
        self.wait(LINGER + 1)
        for peer in self._peers.values():
            peer.close()

    def wait(self, seconds: float) -> None:
        """Give the watching thread time to find out who was lost."""
        if self._thread.is_alive():
            self._thread.join(seconds)

    # The thread.

    def _watch(self) -> None:
        try:
            self._look_until_somebody_is_lost()
        except Exception as error:      # whatever it is: a process that nobody watches must not go on
            self._verdict = f'the watch over the other processes failed ({type(error).__name__}: {error})'
        if self.index == 0:
            self._server.close()
        if self._verdict and self._verdict != 'left':
            self._spread()
            if self._everyone and not self._failure:
                self._on_lost(self._verdict)

    def _look_until_somebody_is_lost(self) -> None:
        last, told = time.monotonic(), 0.0
        while not self._verdict:
            now = time.monotonic()
            if now - last > POLL + self.limits.beat:    # while this process itself stood still nobody else is to blame
                for peer in self._peers.values():
                    peer.heard, peer.behind_since = peer.heard + now - last, peer.behind_since + now - last
            last = now
            if not self._everyone:
                self._meet()
            for peer in self._peers.values():
                for message in peer.receive():
                    self._take(message)
            if now - told >= self.limits.beat or self._left:
                told = now
                self._tell()
            if self._left and all(p.over or not p.open for p in self._peers.values()):
                return
            self._verdict = self._verdict or (not self._left and self._judge() or '')
            time.sleep(POLL)

    # Getting together.

    def _missing(self) -> str:
        known = self._facts if self.index == 0 else {i: peer for i, peer in self._peers.items() if peer.open}
        return ', '.join(name for i, name in enumerate(self.names) if i not in known and (self.index == 0 or i == 0))

    def _meet(self) -> None:
        """Accept calls, or call the hub."""
        if self.index:
            if self._missing():
                self._call()
            return
        self._callers = [caller for caller in self._callers if caller.open]
        with contextlib.suppress(OSError):                  # nobody else is calling
            while True:
                self._callers.append(_Peer(self._server.accept()[0]))
        for caller in self._callers:
            for message in caller.receive() if caller not in self._peers.values() else []:
                if isinstance(message.get('hello'), dict):
                    self._admit(caller, **message['hello'])
        for i in [i for i, peer in self._peers.items() if not peer.open]:
            del self._peers[i], self._facts[i]              # it may be started again
        if not self._missing():
            self._everyone = [self._facts[i] for i in range(len(self.names))]
            self._tell()

    def _admit(self, caller: _Peer, index: Any = None, names: Any = None, facts: Any = None, **_: Any) -> None:
        if names != self.names or index not in range(1, len(names)):
            caller.send(verdict=f'{self.names[0]} was started with another list of processes '
                                f'({", ".join(self.names)}): give every process the same one')
        elif index in self._peers:
            caller.send(verdict=f'another process already runs as {names[index]}: give every process a task of its own')
        else:
            self._peers[index], self._facts[index] = caller, facts

    def _call(self) -> None:
        """Connect to the hub if it is there."""
        try:
            connection = socket.create_connection(self.address, timeout=2)
        except OSError:
            return
        if connection.getsockname() == connection.getpeername():        # a free local port can be connected to itself
            connection.close()
            return
        self._peers[0] = _Peer(connection)
        self._peers[0].send(hello={'index': self.index, 'names': self.names, 'facts': self._facts[self.index]})
        self._begun = time.monotonic() + LINGER             # now the hub says who is missing

    # Watching.

    def _take(self, message: Dict[str, Any]) -> None:
        """A verdict that somebody has reached, or the facts of everyone."""
        if 'verdict' in message and not self._left:
            self._verdict = str(message['verdict'])
        self._everyone = self._everyone or list(message.get('everyone', []))

    def _tell(self) -> None:
        over = self._left and (self.index > 0 or all(p.left or not p.open for p in self._peers.values()))
        patience = max(self.limits.patience, 5 * statistics.median(self._gaps or [0]))      # slow machines, slow steps
        if self.steps < WARM_UP:
            patience = self.limits.start
        for peer in self._peers.values():
            peer.send(everyone=self._everyone, beat=dict(
                steps=self.steps, patience=self._allowed or patience, doing=self._doing, left=self._left, over=over))

    def _judge(self) -> str:
        """Who is lost, and why; '' while all is well."""
        now = time.monotonic()
        furthest = max([self.steps] + [peer.steps for peer in self._peers.values()])
        for i, peer in self._peers.items():
            name, still = self.names[i], now - peer.behind_since
            if peer.garbled:
                return (f'{name}: what it sends is no heartbeat of {name}; another program has the port '
                        f'{_text(self.address)}, choose a free one, or another version runs there')
            if not self._everyone:
                continue
            if not peer.left and not peer.open:
                return f'{name} died: its connection broke'
            if not peer.left and now - peer.heard > self.limits.silence:
                return f'{name} hangs: no sign of life for {now - peer.heard:.0f} s'
            if peer.steps >= furthest:
                peer.behind_since = now
            elif peer.left and still > self.limits.patience:
                return f'{name} has left the run after step {peer.steps} while others are at step {furthest}'
            elif still > peer.patience and not peer.left:
                doing = f', {peer.doing}' if peer.doing else ''
                return (f'{name} hangs: it is alive{doing}, but stays at step {peer.steps} while others have waited at '
                        f'step {furthest} for {still:.0f} s')
        if self._everyone or now - self._begun <= self.limits.wait:
            return ''
        return (f'waited {self.limits.wait:g} s in vain for {self._missing() or self.names[0]} (meeting point '
                f'{_text(self.address)}): start it, with the same list of processes, and see that no firewall closes '
                'that port')

    def _spread(self) -> None:
        """Tell everybody, and stay until they have hung up: closing at once could destroy the message on its way."""
        peers = self._callers or list(self._peers.values())
        for peer in peers:
            peer.send(verdict=self._verdict)
        end = time.monotonic() + LINGER
        while time.monotonic() < end and any(peer.open for peer in peers):
            for peer in peers:
                peer.receive()
            time.sleep(POLL)


def _listen(address: Tuple[str, int]) -> socket.socket:
    """The hub's listening socket, on its own address where the machine has that, else on all of them."""
    for host in (address[0], ''):
        server = socket.socket()
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.setblocking(False)
        try:
            server.bind((host, address[1]))
            server.listen(64)
            return server
        except OSError as error:
            server.close()
            reason = error.strerror
    raise UserError(f'{_text(address)}: cannot listen there for the heartbeat of the other processes ({reason}); '
                    'choose a free port')


def _text(address: Tuple[str, int]) -> str:
    return f'{address[0]}:{address[1]}'
