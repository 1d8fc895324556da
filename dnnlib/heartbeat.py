"""Heartbeat between the processes of one job: finds the one that died, hangs or makes no progress, and names it.

Process 0 is the hub; each other process holds one TCP connection to it. Lines of JSON, no TensorFlow, one thread.
"""

import collections
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


class Limits(NamedTuple):
    """Seconds. `silence` and `patience` together with a little travel stay below half a minute."""

    beat: float = 1         # between two signs of life
    silence: float = 15     # a process not heard of for so long hangs (or its machine or network is gone)
    patience: float = 15    # a process whose steps stand still for so long while another waits for it hangs
    start: float = 900      # the same for its first steps
    wait: float = 300       # for all processes to show up
    leave: float = 10       # a process that has finished waits so long for the others to finish too
    linger: float = 2       # so that a last message gets through


class _Line:
    """One connection that carries JSON objects, one a line; never blocks. `open` turns False when it breaks."""

    def __init__(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        self._socket = connection
        self._received = b''
        self._unsent = b''
        self.open = True
        self.garbled = False

    def send(self, **message: Any) -> None:
        if len(self._unsent) < LONGEST_LINE:        # a stopped reader shall not fill our memory
            self._unsent += json.dumps(message).encode() + b'\n'
        self.flush()

    def flush(self) -> None:
        try:
            while self._unsent:
                self._unsent = self._unsent[self._socket.send(self._unsent):]
        except BlockingIOError:
            pass
        except OSError:
            self._unsent = b''                      # a broken line may still hold messages to read

    def receive(self) -> List[Dict[str, Any]]:
        """All messages that have arrived."""
        try:
            while self.open:
                data = self._socket.recv(1 << 16)
                self.open = bool(data)
                self._received += data
        except BlockingIOError:
            pass
        except OSError:
            self.open = False
        *lines, self._received = self._received.split(b'\n')
        return self._parse(lines)

    def _parse(self, lines: List[bytes]) -> List[Dict[str, Any]]:
        try:
            messages = [json.loads(line.decode()) for line in lines]
        except ValueError:
            messages = [None]
        if len(self._received) > LONGEST_LINE or not all(isinstance(m, dict) for m in messages):
            self.open, self.garbled, messages = False, True, []
        return messages

    def close(self) -> None:
        self.open = False
        self._socket.close()


class _Peer:
    """What is known of another process."""

    def __init__(self, name: str, line: _Line, patience: float) -> None:
        self.name = name
        self.line = line
        self.heard = time.monotonic()
        self.behind_since = self.heard
        self.progress = (0, 0)              # steps begun, changes of what it is doing
        self.patience = patience
        self.doing = ''
        self.left = self.over = False

    def update(self, beat: Dict[str, Any], now: float) -> None:
        progress = (int(beat['steps']), int(beat['changes']))
        if progress != self.progress:
            self.progress, self.behind_since = progress, now
        self.heard, self.patience = now, float(beat['patience'])
        self.doing, self.left, self.over = str(beat['doing']), bool(beat['left']), bool(beat['over'])


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
        self.limits = limits or Limits()
        self.steps = 0
        self._on_lost = on_lost
        self._changes = 0
        self._doing, self._allowed = '', 0.0
        self._gaps: Any = collections.deque(maxlen=64)
        self._last_step = time.monotonic()
        self._waiting_since = 0.0
        self._left = self._stop = False
        self._failure: Optional[str] = None
        self._peers: Dict[int, _Peer] = {}
        self._thread = threading.Thread(target=self._watch, name='heartbeat', daemon=True)

    # What the main program calls.

    def connect(self, facts: Any) -> List[Any]:
        """Wait until all processes are there, then start watching; returns the `facts` of all of them, in order.

        facts: anything JSON can hold. Prints a line every ten seconds. Raises UserError when somebody does not show
        up in time, when the hub's port is taken, or when two processes say they are the same one.
        """
        facts = json.loads(json.dumps(facts))
        everyone = self._gather(facts) if self.index == 0 else self._join(facts)
        self._last_step = time.monotonic()
        self._thread.start()
        return everyone

    def step(self) -> None:
        """Say that this process has arrived at its next common step; the others must arrive in time."""
        now = time.monotonic()
        self._gaps.append(now - self._last_step)
        self._last_step = now
        self.steps += 1

    @contextlib.contextmanager
    def allow(self, doing: str, seconds: float) -> Iterator[None]:
        """The others wait up to `seconds` while this process does something else, e.g. writes a snapshot."""
        before = self._doing, self._allowed
        self._doing, self._allowed = doing, seconds
        self._changes += 1
        try:
            yield
        finally:
            self._doing, self._allowed = before
            self._changes += 1

    def close(self) -> None:
        """Leave because the work is done; waits a little for the others to finish theirs."""
        self._left = True
        if self._thread.is_alive():
            self._thread.join(self.limits.leave)
        self._hang_up()

    def fail(self, reason: str) -> None:
        """Leave because of an error, which the others will print."""
        self._failure = reason
        self._hang_up()

    def wait(self, seconds: float) -> None:
        """Give the watching thread time to find out who was lost."""
        self._thread.join(seconds)

    @property
    def patience(self) -> float:
        """Seconds the others shall wait for the next step of this process before they give it up."""
        if self._allowed:
            return self._allowed
        if self.steps < WARM_UP:
            return self.limits.start
        return max(self.limits.patience, 5 * statistics.median(list(self._gaps)))   # slow machines, slow steps

    # Getting together.

    def _gather(self, facts: Any) -> List[Any]:
        """The hub's part of `connect`."""
        found: Dict[int, Any] = {}
        lines: List[_Line] = []
        names = self.names
        with contextlib.closing(_listen(self.address)) as server:
            for verdict in self._waiting(lambda: ', '.join(n for i, n in enumerate(names) if i > 0 and i not in found)):
                lines += _accept(server)
                for line in lines:
                    for message in line.receive():
                        self._admit(line, message, found)
                lines = [line for line in lines if line.open]
                for i in [i for i, (line, _) in found.items() if not line.open]:
                    del found[i]                            # it may be started again
                if verdict:
                    for line in lines:
                        line.send(refused=verdict)
        everyone = [facts] + [found[i][1] for i in range(1, len(self.names))]
        for i, (line, _) in found.items():
            line.send(welcome=everyone)
            self._peers[i] = _Peer(self.names[i], line, self.limits.start)
        return everyone

    def _admit(self, line: _Line, message: Dict[str, Any], found: Dict[int, Any]) -> None:
        hello = message.get('hello')
        if not isinstance(hello, dict):
            return
        index = hello.get('index')
        if hello.get('names') != self.names:
            line.send(refused=f'{self.names[0]} was started with another list of processes ({", ".join(self.names)}): '
                              'give every process the same one')
        elif index not in range(1, len(self.names)) or index in found:
            name = self.names[index] if index in range(len(self.names)) else f'process {index}'
            line.send(refused=f'another process already runs as {name}: give every process a task of its own')
        else:
            found[index] = line, hello.get('facts')

    def _join(self, facts: Any) -> List[Any]:
        """The part of all others in `connect`."""
        line: Optional[_Line] = None
        everyone: List[Any] = []
        for _ in self._waiting(lambda: '' if everyone else self.names[0]):
            if line is None or not line.open:
                line = _call(self.address)
                if line is None:
                    continue
                self._waiting_since = time.monotonic() + self.limits.linger     # now the hub says who is missing
                line.send(hello={'index': self.index, 'names': self.names, 'facts': facts})
            for message in line.receive():
                if 'refused' in message:
                    raise UserError(str(message['refused']))
                everyone.extend(message.get('welcome', []))
            if line.garbled:
                raise UserError(f'{_text(self.address)}: what answers there is no heartbeat of {self.names[0]}; '
                                'another program has this port: choose a free one')
        self._peers[0] = _Peer(self.names[0], line, self.limits.start)
        return everyone

    def _waiting(self, missing: Callable[[], str]) -> Iterator[str]:
        """Yields '' again and again until nobody is missing; tells how long; raises UserError after a last message."""
        self._waiting_since = told = time.monotonic()
        while missing():
            yield ''
            time.sleep(POLL / 2)
            now, names = time.monotonic(), missing()
            waited = max(now - self._waiting_since, 0)
            if names and now - told >= 10:
                told = now
                print(f'waiting for {names} ({waited:.0f} of {self.limits.wait:g} s)', file=sys.stderr, flush=True)
            if names and waited > self.limits.wait:
                verdict = (f'waited {self.limits.wait:g} s in vain for {names} (meeting point {_text(self.address)}): '
                           'start it, with the same list of processes, and see that no firewall closes that port')
                yield verdict
                raise UserError(verdict)

    # Watching.

    def _watch(self) -> None:
        last = told = time.monotonic()
        self._tell()
        while not self._stop and self._failure is None:
            time.sleep(POLL)
            now = time.monotonic()
            self._forgive(now - last - POLL)
            last = now
            verdict = self._listen(now)
            if now - told >= self.limits.beat or self._left:
                told = now
                self._tell()
            verdict = verdict or self._judge(now)
            if verdict:
                self._spread(verdict)
                self._on_lost(verdict)
                return
            if self._left and all(p.over or not p.line.open for p in self._peers.values()):
                return
        if self._failure is not None:
            self._spread(f'{self.names[self.index]} stopped with an error: {self._failure}')

    def _forgive(self, gap: float) -> None:
        """Time during which this process itself stood still is nobody else's fault."""
        if gap > self.limits.beat:
            for peer in self._peers.values():
                peer.heard += gap
                peer.behind_since += gap

    def _listen(self, now: float) -> Optional[str]:
        """Read what the others say; returns the verdict if somebody has already reached one."""
        for peer in self._peers.values():
            for message in peer.line.receive():
                if 'verdict' in message and not self._left:
                    return str(message['verdict'])
                if 'beat' in message:
                    peer.update(message['beat'], now)
        return None

    def _tell(self) -> None:
        over = self._left and (self.index > 0 or all(p.left or not p.line.open for p in self._peers.values()))
        beat = {'steps': self.steps, 'changes': self._changes, 'patience': self.patience, 'doing': self._doing,
                'left': self._left, 'over': over}
        for peer in self._peers.values():
            peer.line.send(beat=beat)

    def _judge(self, now: float) -> Optional[str]:
        """Who is lost, and why; None while all is well or this process has finished its work."""
        if self._left:
            return None
        furthest = max([self.steps] + [p.progress[0] for p in self._peers.values()])
        for peer in self._peers.values():
            if not peer.left and not peer.line.open:
                return f'{peer.name} died: its connection broke'
            if not peer.left and now - peer.heard > self.limits.silence:
                return f'{peer.name} hangs: no sign of life for {now - peer.heard:.0f} s'
            if peer.progress[0] >= furthest:
                peer.behind_since = now
            elif now - peer.behind_since > (self.limits.patience if peer.left else peer.patience):
                return self._standing_still(peer, now, furthest)
        return None

    def _standing_still(self, peer: _Peer, now: float, furthest: int) -> str:
        if peer.left:
            return f'{peer.name} has left the run after step {peer.progress[0]} while others are at step {furthest}'
        doing = f', {peer.doing}' if peer.doing else ''
        return (f'{peer.name} hangs: it is alive{doing}, but stays at step {peer.progress[0]} while others have '
                f'waited at step {furthest} for {now - peer.behind_since:.0f} s')

    def _spread(self, verdict: str) -> None:
        """Tell everybody, and stay until they have hung up: closing at once could destroy the message on its way."""
        for peer in self._peers.values():
            peer.line.send(verdict=verdict)
        end = time.monotonic() + self.limits.linger
        while time.monotonic() < end and any(p.line.open for p in self._peers.values()):
            for peer in self._peers.values():
                peer.line.flush()
                peer.line.receive()
            time.sleep(POLL)

    def _hang_up(self) -> None:
        self._stop = True
        if self._thread.is_alive():
            self._thread.join(self.limits.linger + 1)
        for peer in self._peers.values():
            peer.line.close()


def _listen(address: Tuple[str, int]) -> socket.socket:
    """The hub's listening socket, on its own address where the machine has that, else on all of them."""
    for host in (address[0], ''):
        server = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
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


def _accept(server: socket.socket) -> List[_Line]:
    found = []
    try:
        while True:
            found.append(_Line(server.accept()[0]))
    except OSError:         # nobody else is calling
        return found


def _call(address: Tuple[str, int]) -> Optional[_Line]:
    """A connection to the hub, or None while it is not there."""
    try:
        connection = socket.create_connection(address, timeout=2)
        if connection.getsockname() != connection.getpeername():    # a free local port can be connected to itself
            return _Line(connection)
        connection.close()
    except OSError:
        pass
    return None


def _text(address: Tuple[str, int]) -> str:
    return f'{address[0]}:{address[1]}'
