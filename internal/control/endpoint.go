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

	"golang.org/x/sys/unix"
)

// socketMode keeps the socket from all but its owner and its group.
const socketMode = 0o660

// openSocketFile is the ioctl SIOCUNIXFILE (linux/un.h): it opens the file that
// a socket is bound to as open does with O_PATH. It takes CAP_NET_ADMIN.
const openSocketFile = unix.SIOCPROTOPRIVATE

// An endpoint is a Unix socket with the file that it is bound to.
type endpoint struct {
	path     string
	listener *net.UnixListener
	file     *os.File // opened with O_PATH
}

// listen opens the socket, with mode 0660, and with no more than that at any
// moment. A socket file that nobody listens at is replaced.
func (e *endpoint) listen() error {
	path, err := filepath.Abs(e.path)
	if err == nil {
		err = clear(path)
	}
	if err == nil {
		e.listener, err = bind(path)
	}
	if err != nil {
		return fmt.Errorf("listen %s: %w", e.path, err)
	}
	e.path = path
	if err := e.adopt(); err != nil {
		_ = e.listener.Close()
		return fmt.Errorf("listen %s: %w", e.path, plain(err))
	}
	return nil
}

// adopt takes hold of the file of the socket and lets the group in, which bind
// leaves to the umask.
func (e *endpoint) adopt() error {
	var err error
	if e.file, err = socketFile(e.listener, e.path); err != nil {
		return err
	}
	// This leads to the open file, whatever has its path by now (proc(5)). fchmod
	// itself refuses a file that is open with O_PATH.
	if err := os.Chmod(fmt.Sprintf("/proc/self/fd/%d", e.file.Fd()), socketMode); err != nil {
		_ = e.file.Close()
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

// chown gives the file to a user and a group.
func (e *endpoint) chown(uid, gid int) error {
	if err := unix.Fchownat(int(e.file.Fd()), "", uid, gid, unix.AT_EMPTY_PATH); err != nil {
		return fmt.Errorf("give %s to the daemon's user: %w", e.path, plain(err))
	}
	return nil
}

// close closes the socket and removes its file, if it is still the one that
// listen made. It may be called again, and without a listen does nothing.
func (e *endpoint) close() error {
	if e.listener == nil {
		return nil
	}
	// The file goes first: who finds it is served.
	err := e.remove()
	if closed := e.listener.Close(); !errors.Is(closed, net.ErrClosed) {
		err = errors.Join(err, closed)
	}
	_ = e.file.Close()
	return err
}

func (e *endpoint) remove() error {
	// While it is open no other file gets its number.
	own, err := e.file.Stat()
	if err != nil {
		return nil // closed before
	}
	file, err := os.Lstat(e.path)
	if err != nil || !os.SameFile(file, own) {
		return nil
	}
	err = os.Remove(e.path)
	if errors.Is(err, fs.ErrPermission) || errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.EROFS) {
		return nil
	}
	return err
}
