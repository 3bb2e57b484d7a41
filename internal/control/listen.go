// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// socketMode keeps the socket from all but its owner and its group.
const socketMode = 0o660

// probeTime bounds the look at who serves a socket.
const probeTime = time.Second

// openSocketFile is the ioctl SIOCUNIXFILE (linux/un.h): it opens the file that
// a socket is bound to as open does with O_PATH. It takes CAP_NET_ADMIN.
const openSocketFile = unix.SIOCPROTOPRIVATE

// Listen opens the socket, with mode 0660, and with no more than that at any
// moment. A socket file that nobody listens at is replaced. It is an error if a process listens
// there, which the error names, and if the path is taken by anything but a
// socket, which is left alone. Clients can connect from now on; they are served
// once Run runs.
//
// Two calls at the same moment for one stale file may both succeed, and the
// later one has the path: something else must keep a second instance out.
func (s *Server) Listen() error {
	path, err := filepath.Abs(s.path)
	if err == nil {
		err = clear(path)
	}
	if err == nil {
		s.listener, err = bind(path)
	}
	if err != nil {
		return fmt.Errorf("listen %s: %w", s.path, err)
	}
	s.path = path
	if err := s.adopt(); err != nil {
		_ = s.listener.Close()
		return fmt.Errorf("listen %s: %w", s.path, plain(err))
	}
	return nil
}

// adopt takes hold of the file of the socket and lets the group in, which bind
// leaves to the umask.
func (s *Server) adopt() error {
	var err error
	if s.file, err = socketFile(s.listener, s.path); err != nil {
		return err
	}
	// This leads to the open file, whatever has its path by now (proc(5)). fchmod
	// itself refuses a file that is open with O_PATH.
	if err := os.Chmod(fmt.Sprintf("/proc/self/fd/%d", s.file.Fd()), socketMode); err != nil {
		_ = s.file.Close()
		return fmt.Errorf("let the group in: %w", plain(err))
	}
	return nil
}

// socketFile opens the file that l is bound to, for its mode and its owner. Its
// path is no way to those: root may listen in a directory of another user's, who
// can put a link to any file there the moment after bind.
func socketFile(l *net.UnixListener, path string) (*os.File, error) {
	raw, err := l.SyscallConn()
	if err != nil {
		return nil, err
	}
	fd := -1
	if e := raw.Control(func(s uintptr) { fd, err = unix.IoctlRetInt(int(s), openSocketFile) }); e != nil {
		return nil, e
	}
	if err == nil {
		return os.NewFile(uintptr(fd), path), nil
	}
	// Who lacks the capability goes by the path, and makes sure that what is there
	// is a socket that this user made.
	fd, err = unix.Open(path, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	var st unix.Stat_t
	if err = unix.Fstat(fd, &st); err == nil &&
		(st.Mode&unix.S_IFMT != unix.S_IFSOCK || int(st.Uid) != os.Geteuid() || st.Nlink != 1) {
		err = errors.New("another file was put in its place")
	}
	if err != nil {
		_ = unix.Close(fd)
		return nil, err
	}
	return os.NewFile(uintptr(fd), path), nil
}

// bind opens the socket. The mode of a socket before bind becomes that of the
// file, less the umask (net/unix/af_unix.c), so there is no moment at which it
// is open to others.
func bind(path string) (*net.UnixListener, error) {
	lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var err error
		if e := c.Control(func(fd uintptr) { err = unix.Fchmod(int(fd), socketMode) }); e != nil {
			return e
		}
		return err
	}}
	l, err := lc.Listen(context.Background(), "unix", path)
	if err != nil {
		return nil, plain(err)
	}
	u := l.(*net.UnixListener)
	u.SetUnlinkOnClose(false) // Close looks first whose the file is
	return u, nil
}

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

// peer returns who is at the other end of c (SO_PEERCRED, unix(7)): as it was
// when it listened or connected. It is nil if the kernel does not say.
func peer(c *net.UnixConn) (p *unix.Ucred) {
	raw, err := c.SyscallConn()
	if err != nil {
		return nil
	}
	_ = raw.Control(func(fd uintptr) {
		p, _ = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	})
	return p
}

// Chown gives the socket file to the user and group that the daemon becomes.
// It is called after Listen.
func (s *Server) Chown(uid, gid int) error {
	if err := unix.Fchownat(int(s.file.Fd()), "", uid, gid, unix.AT_EMPTY_PATH); err != nil {
		return fmt.Errorf("give %s to the daemon's user: %w", s.path, plain(err))
	}
	return nil
}

// Close closes the socket and removes its file, if it is still the one that
// Listen made. Where the directory does not let go of it, it stays behind, which
// is no hindrance to the next Listen. Run does the same at its end: Close is for
// a Server that never runs. Without a Listen it does nothing.
func (s *Server) Close() error {
	if s.listener == nil {
		return nil
	}
	// The file goes first: who finds it is served.
	err := s.remove()
	if e := s.listener.Close(); !errors.Is(e, net.ErrClosed) {
		err = errors.Join(err, e)
	}
	_ = s.file.Close()
	return err
}

func (s *Server) remove() error {
	// While it is open no other file gets its number.
	own, err := s.file.Stat()
	if err != nil {
		return nil // closed before
	}
	file, err := os.Lstat(s.path)
	if err != nil || !os.SameFile(file, own) {
		return nil
	}
	err = os.Remove(s.path)
	if errors.Is(err, fs.ErrPermission) || errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.EROFS) {
		return nil
	}
	return err
}

// plain returns the error of the system alone, for the text around it names
// the path already.
func plain(err error) error {
	if errno := unix.Errno(0); errors.As(err, &errno) {
		return errno
	}
	return err
}
