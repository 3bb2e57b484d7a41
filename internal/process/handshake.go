// SPDX-License-Identifier: Apache-2.0

package process

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// pollPause is how often the child is looked at where the kernel cannot tell
// its end, in ms: before Linux 5.3.
const pollPause = 100

// A handshake is the starting process's side: a socket that takes what a
// Notifier sends. It belongs to one goroutine.
type handshake struct {
	fd     int
	name   string // of the socket, in the form of NOTIFY_SOCKET
	stderr io.Writer

	ready bool
	said  bool // the child said why it fails
	code  int  // the exit status that it named, -1 before
}

func newHandshake(stderr io.Writer) (*handshake, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	h := &handshake{fd: fd, stderr: stderr, code: -1}
	// Everybody can send to the socket, so the kernel is to name the sender of
	// each message; it is asked before the socket has a name.
	err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PASSCRED, 1)
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrUnix{}) // the kernel finds an abstract name: unix(7), autobind
	}
	if err != nil {
		h.Close()
		return nil, err
	}
	sa, err := unix.Getsockname(fd)
	if err != nil {
		h.Close()
		return nil, err
	}
	h.name = sa.(*unix.SockaddrUnix).Name
	return h, nil
}

func (h *handshake) Close() { _ = unix.Close(h.fd) }

// wait waits until child is ready or has ended, and returns the exit status.
func (h *handshake) wait(child *os.Process) (int, error) {
	timeout := -1
	pidfd, err := unix.PidfdOpen(child.Pid, 0)
	if err != nil {
		pidfd, timeout = -1, pollPause // poll(2) passes over negative descriptors
	} else {
		defer unix.Close(pidfd)
	}
	for {
		fds := []unix.PollFd{{Fd: int32(h.fd), Events: unix.POLLIN}, {Fd: int32(pidfd), Events: unix.POLLIN}}
		if _, err := unix.Poll(fds, timeout); err != nil && !errors.Is(err, unix.EINTR) {
			return 1, fmt.Errorf("wait for the daemon: %w", err)
		}
		// The end is looked at first: all that was sent before it can be read.
		ended := ended(child.Pid)
		for !h.ready && h.receive(child.Pid) {
		}
		switch {
		case h.ready:
			return 0, child.Release()
		case ended:
			state, err := child.Wait()
			if err != nil {
				return 1, fmt.Errorf("wait for the daemon: %w", err)
			}
			return h.status(state), nil
		}
	}
}

// ended tells whether a child has ended, and leaves it to be waited for.
func ended(pid int) bool {
	var info unix.Siginfo
	err := unix.Waitid(unix.P_PID, pid, &info, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil)
	return err == nil && info.Signo != 0 || errors.Is(err, unix.ECHILD)
}

// status returns the exit status for a child that ended before it was ready,
// and reports its end if it did not.
func (h *handshake) status(state *os.ProcessState) int {
	switch {
	case h.code >= 0:
		return h.code
	case h.said:
		return max(state.ExitCode(), 1)
	}
	how := fmt.Sprintf("exit status %d", state.ExitCode())
	if ws, ok := state.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		how = "killed by signal " + unix.SignalName(ws.Signal())
	}
	fmt.Fprintf(h.stderr, "%s: daemon ended before it was ready (%s)\n", program(), how)
	return 1
}

// receive takes one message, if there is one, and tells whether there may be
// more.
func (h *handshake) receive(pid int) bool {
	buf := make([]byte, maxDatagram)
	// There is no room for descriptors that a stranger may pass.
	oob := make([]byte, unix.CmsgSpace(unix.SizeofUcred))
	n, oobn, _, _, err := unix.Recvmsg(h.fd, buf, oob, unix.MSG_CMSG_CLOEXEC)
	if err != nil {
		return errors.Is(err, unix.EINTR)
	}
	if sender(oob[:oobn]) == pid {
		for field := range strings.Lines(string(buf[:n])) {
			h.take(strings.TrimSuffix(field, "\n"))
		}
	}
	return true
}

// take acts on one field of a message from the child.
func (h *handshake) take(field string) {
	name, value, _ := strings.Cut(field, "=")
	switch name {
	case "READY":
		h.ready = value == "1"
	case failVar:
		if text, err := strconv.Unquote(value); err == nil {
			h.said = true
			_, _ = io.WriteString(h.stderr, text)
		}
	case warnVar:
		if text, err := strconv.Unquote(value); err == nil {
			fmt.Fprintf(h.stderr, "%s: warning: %s\n", program(), text)
		}
	case statusVar:
		if code, err := strconv.ParseUint(value, 10, 8); err == nil {
			h.code = int(code)
		}
	}
}

// sender returns who sent a message by what came with it; 0 where the kernel
// does not say.
func sender(oob []byte) int {
	cmsgs, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return 0
	}
	for i := range cmsgs {
		if cred, err := unix.ParseUnixCredentials(&cmsgs[i]); err == nil {
			return int(cred.Pid)
		}
	}
	return 0
}
