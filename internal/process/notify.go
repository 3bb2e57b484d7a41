// SPDX-License-Identifier: Apache-2.0

package process

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// The environment variables of sd_notify(3) and sd_watchdog_enabled(3).
const (
	notifyVar      = "NOTIFY_SOCKET"
	watchdogVar    = "WATCHDOG_USEC"
	watchdogPIDVar = "WATCHDOG_PID"
)

// What a waiting Detach is told beyond sd_notify(3), which leaves names that
// begin with X_ to others.
const (
	failVar   = "X_FAIL"        // a piece of a text, quoted as in Go
	statusVar = "X_EXIT_STATUS" // ends the text
	warnVar   = "X_WARN"        // a line, quoted as in Go
)

const (
	// maxDatagram bounds a message, in bytes: systemd reads no more than
	// PIPE_BUF.
	maxDatagram = 4096

	// maxStatus bounds a status, in bytes, so that a message has room for it.
	maxStatus = 2048

	// maxPiece is how much of a text goes into a message, in bytes: a quoted
	// byte takes up to four.
	maxPiece = 960

	// patience is how long a receiver may take no messages until it is given
	// up, for messages that matter.
	patience = 5 * time.Second
)

// A Notifier tells whoever started the daemon how it is: a service manager, as
// sd_notify(3) says, or the starting process that waits in Detach. It never
// reports an error, for nobody could act on it. Where the receiver has no room,
// Status is lost at once, while the other methods try for up to five seconds in
// all. A nil Notifier does nothing. A Notifier is safe for concurrent use.
type Notifier struct {
	mu       sync.RWMutex // held for reading while fd is in use
	fd       int          // -1 where nobody listens
	addr     unix.SockaddrUnix
	watchdog time.Duration
}

// NewNotifier takes NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID out of the
// environment, so that programs started later do not see them, and opens the
// socket. Without NOTIFY_SOCKET it returns a Notifier that does nothing. A
// socket file or an abstract name that leads nowhere is an error, and so are the
// vsock addresses that virtual machines use.
func NewNotifier() (*Notifier, error) {
	socket, usec, pid := takeEnv(notifyVar), takeEnv(watchdogVar), takeEnv(watchdogPIDVar)
	n := &Notifier{fd: -1, addr: unix.SockaddrUnix{Name: socket}}
	if socket == "" {
		return n, nil
	}
	if socket[0] != '/' && socket[0] != '@' {
		return nil, fmt.Errorf("%s=%s: neither a socket file nor an abstract name", notifyVar, socket)
	}
	var err error
	if n.watchdog, err = watchdogInterval(usec, pid); err != nil {
		return nil, err
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("%s=%s: %w", notifyVar, socket, err)
	}
	if err := unix.Connect(fd, &n.addr); err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("%s=%s: %w", notifyVar, socket, err)
	}
	n.fd = fd
	return n, nil
}

func takeEnv(name string) string {
	value := os.Getenv(name)
	_ = os.Unsetenv(name) // fails for names that are none
	return value
}

// watchdogInterval returns the time within which a ping is expected; 0 where
// none is, or one of another process.
func watchdogInterval(usec, pid string) (time.Duration, error) {
	if usec == "" || pid != "" && pid != strconv.Itoa(os.Getpid()) {
		return 0, nil
	}
	// The limit keeps the interval within a time.Duration.
	us, err := strconv.ParseUint(usec, 10, 53)
	if err != nil || us == 0 {
		return 0, fmt.Errorf("%s=%s: not a number of microseconds", watchdogVar, usec)
	}
	return time.Duration(us) * time.Microsecond, nil
}

// Ready tells that the daemon serves, for the first time or again after
// Reloading, with a status.
func (n *Notifier) Ready(status string) {
	n.send("READY=1\nSTATUS="+line(status), time.Now().Add(patience))
}

// Reloading tells that the configuration is read again. Ready ends that.
func (n *Notifier) Reloading() {
	var ts unix.Timespec
	// From version 253 on systemd wants the time with it (Type=notify-reload).
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts)
	n.send(fmt.Sprintf("RELOADING=1\nMONOTONIC_USEC=%d", ts.Nano()/1000), time.Now().Add(patience))
}

// Stopping tells that the daemon is about to end.
func (n *Notifier) Stopping() { n.send("STOPPING=1", time.Now().Add(patience)) }

// Status tells how the daemon is, in one line: newlines become spaces, and what
// is beyond 2 KiB is cut.
func (n *Notifier) Status(text string) { n.send("STATUS="+line(text), time.Time{}) }

// Warn tells of something that the daemon starts with all the same. A waiting
// Detach prints the text as a warning, in one line of at most 960 bytes; a service
// manager passes over it.
func (n *Notifier) Warn(text string) {
	text = line(text)
	text = strings.ToValidUTF8(text[:min(len(text), maxPiece)], "")
	n.send(warnVar+"="+strconv.Quote(text), time.Now().Add(patience))
}

// Fail tells why the daemon cannot start, and the exit status that it is about
// to end with, 0 to 255. A waiting Detach prints the text, which may have many
// lines, as it is; a service manager shows it as status, in one line.
func (n *Notifier) Fail(status int, text string) {
	end := time.Now().Add(patience)
	text = strings.TrimRight(text, "\n") + "\n"
	for piece := range slices.Chunk([]byte(text), maxPiece) {
		n.send(failVar+"="+strconv.Quote(string(piece)), end)
	}
	n.send(fmt.Sprintf("STATUS=%s\nEXIT_STATUS=%d\n%s=%d", line(text), status, statusVar, status), end)
}

// Watchdog returns the time within which the service manager expects a ping; 0
// where nobody does.
func (n *Notifier) Watchdog() time.Duration {
	if n == nil {
		return 0
	}
	return n.watchdog
}

// ping tells a watching service manager that the daemon is alive.
func (n *Notifier) ping() { n.send("WATCHDOG=1", time.Time{}) }

// Close closes the socket. Messages after it go nowhere.
func (n *Notifier) Close() error {
	if n == nil {
		return nil
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.fd < 0 {
		return nil
	}
	fd := n.fd
	n.fd = -1
	return unix.Close(fd)
}

// send sends one message, and waits until end for room.
func (n *Notifier) send(msg string, end time.Time) {
	if n == nil {
		return
	}
	n.mu.RLock()
	defer n.mu.RUnlock()
	again := true
	for n.fd >= 0 {
		_, err := unix.Write(n.fd, []byte(msg))
		switch left := time.Until(end); {
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.EAGAIN) && left > 0:
			fds := []unix.PollFd{{Fd: int32(n.fd), Events: unix.POLLOUT}}
			_, _ = unix.Poll(fds, int(left.Milliseconds())+1)
		case (errors.Is(err, unix.ECONNREFUSED) || errors.Is(err, unix.ENOTCONN)) && again && n.addr.Name[0] == '/':
			// A service manager that was started anew has another socket there.
			// An abstract name may be anybody's by now, so it is not tried.
			again = false
			if unix.Connect(n.fd, &n.addr) != nil {
				return
			}
		default:
			return
		}
	}
}

// line makes text fit for STATUS: one line, of bounded length, of UTF-8.
func line(text string) string {
	text = strings.ReplaceAll(strings.TrimSpace(text), "\n", " ")
	return strings.ToValidUTF8(text[:min(len(text), maxStatus)], "")
}
