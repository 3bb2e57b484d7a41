// SPDX-License-Identifier: Apache-2.0

package control

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// probeTime bounds the look at who serves a socket.
const probeTime = time.Second

// clear makes room for a socket: it removes one that nobody listens at.
func clear(path string) error {
	file, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return plain(err)
	case file.Mode().Type() != fs.ModeSocket:
		return errors.New("something that is no socket is in the way")
	}
	c, err := (&net.Dialer{Timeout: probeTime}).Dial("unix", path)
	switch {
	case err == nil:
		defer c.Close()
		if p := peer(c.(*net.UnixConn)); p != nil && p.Pid > 0 { // 0 is in another pid namespace
			return fmt.Errorf("process %d serves it", p.Pid)
		}
		return errors.New("another process serves it")
	case errors.Is(err, unix.ECONNREFUSED):
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove the socket that a process left behind: %w", plain(err))
		}
		return nil
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case errors.Is(err, unix.EAGAIN):
		return errors.New("another process serves it, and does not answer")
	case errors.Is(err, unix.EPROTOTYPE):
		return errors.New("another process has a socket of another kind there")
	}
	return plain(err)
}

// plain returns the error of the system alone, for the text around it names
// the path already.
func plain(err error) error {
	if errno := unix.Errno(0); errors.As(err, &errno) {
		return errno
	}
	return err
}
