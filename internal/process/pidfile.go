// SPDX-License-Identifier: Apache-2.0

package process

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// ErrRunning is what a RunningError matches.
var ErrRunning = errors.New("another instance is running")

// A RunningError tells that another process holds the lock of a pid file.
type RunningError struct {
	File string
	PID  int // what the file names; 0 where it names nothing (yet)
}

// Error names the file and the process.
func (e *RunningError) Error() string {
	text := e.File + ": " + ErrRunning.Error()
	if e.PID > 0 {
		text += fmt.Sprintf(" with pid %d", e.PID)
	}
	return text
}

// Is makes the error match ErrRunning.
func (e *RunningError) Is(target error) bool { return target == ErrRunning }

// ErrNotPID is matched by the error about a pid file that holds something else,
// and is somebody's only copy maybe.
var ErrNotPID = errors.New("holds something else than a process id")

// maxTries bounds how often a pid file is opened again because it was removed
// meanwhile: each time another instance must have begun to stop.
const maxTries = 1000

// A PIDFile is a locked file that names this process. It belongs to one
// goroutine.
type PIDFile struct {
	name string
	file *os.File
}

// pidFileMode keeps the file to its owner: whoever may open it may lock it, and
// so keep the daemon from starting again.
const pidFileMode = 0o600

// LockPIDFile makes the file or takes over a stale one, locks it and writes this
// process's id to it. Its mode is 0600. The name is resolved again by
// Remove, so it is absolute where the directory changes. If another process has
// the lock the error is a *RunningError. A file that holds anything but a number,
// which the error ErrNotPID is about, is left alone, for a wrong name must not
// cost its content. So is what is not a regular file, or has a second name: the
// daemon may be root, and the directory may belong to somebody else.
//
// The lock is one of flock(2): it ends with the process, however that ends,
// stays when other descriptors of the file are closed, and flock(1) and lslocks(8)
// see it. It is not inherited by programs that the process starts.
func LockPIDFile(name string) (*PIDFile, error) {
	for range maxTries {
		f, err := openPIDFile(name)
		if errors.Is(err, fs.ErrExist) {
			continue // made meanwhile
		}
		if err != nil {
			return nil, err
		}
		p := &PIDFile{name, f}
		lockErr := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		ours, err := p.ours()
		switch {
		case err != nil:
		case !ours:
			_ = f.Close()
			continue // removed between open and lock: what we have is no pid file any more
		case errors.Is(lockErr, unix.EWOULDBLOCK):
			pid, _ := readPID(f) // it may hold nothing yet
			err = &RunningError{name, pid}
		case lockErr != nil:
			err = fmt.Errorf("lock %s: %w", name, lockErr)
		default:
			if _, err = readPID(f); err != nil {
				err = fmt.Errorf("%s: %w", name, err)
				break
			}
			if err = p.write(); err == nil {
				return p, nil
			}
			return nil, errors.Join(err, p.remove())
		}
		_ = f.Close()
		return nil, err
	}
	return nil, fmt.Errorf("lock %s: other instances keep removing it", name)
}

// openPIDFile opens the file, and makes it only if it is not there: with
// fs.protected_regular even root may not open with O_CREAT what is another's in
// a directory like /tmp (proc_sys_fs(5)).
func openPIDFile(name string) (*os.File, error) {
	// With O_NONBLOCK a FIFO does not wait for its other end.
	const flags = os.O_RDWR | syscall.O_NOFOLLOW | syscall.O_NONBLOCK
	f, err := os.OpenFile(name, flags, 0)
	if errors.Is(err, fs.ErrNotExist) {
		f, err = os.OpenFile(name, flags|os.O_CREATE|os.O_EXCL, pidFileMode)
	}
	if errors.Is(err, unix.ELOOP) {
		return nil, fmt.Errorf("%s: is a symbolic link", name)
	}
	if err != nil {
		return nil, err
	}
	var st unix.Stat_t
	switch err = unix.Fstat(int(f.Fd()), &st); {
	case err != nil:
		err = fmt.Errorf("stat %s: %w", name, err)
	case st.Mode&unix.S_IFMT != unix.S_IFREG:
		err = fmt.Errorf("%s: not a regular file", name)
	case os.Geteuid() == 0 && st.Uid != 0:
		// Whoever may write to it chooses what root kills by it.
		err = fmt.Errorf("%s: belongs to another user (uid %d): remove it", name, st.Uid)
	case st.Nlink > 1:
		err = fmt.Errorf("%s: has another name (hard link)", name)
	default:
		return f, nil
	}
	_ = f.Close()
	return nil, err
}

// write replaces the content by our pid.
func (p *PIDFile) write() error {
	info, err := p.file.Stat()
	if err == nil && info.Mode().Perm() != pidFileMode {
		// The umask may have taken rights away. Another's file stays as it is.
		if err = p.file.Chmod(pidFileMode); errors.Is(err, fs.ErrPermission) {
			err = nil
		}
	}
	if err == nil {
		err = p.file.Truncate(0)
	}
	if err == nil {
		_, err = p.file.WriteAt(fmt.Appendln(nil, os.Getpid()), 0)
	}
	return err
}

// ours tells whether the name still stands for the open file.
func (p *PIDFile) ours() (bool, error) {
	open, err := p.file.Stat()
	if err != nil {
		return false, err
	}
	named, err := os.Lstat(p.name)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil && os.SameFile(open, named), err
}

// Remove removes the file on a clean stop, if the name still stands for it and it
// holds this process's id, and lets go of the lock. Where the process may not
// remove it, since it gave up privileges, the file stays, empty and unlocked,
// which is stale. The PIDFile is of no use afterwards. Of nil there is nothing to
// remove.
func (p *PIDFile) Remove() error {
	if p == nil {
		return nil
	}
	if pid, err := readPID(p.file); err != nil || pid != os.Getpid() {
		_ = p.file.Close()
		return nil // somebody has put it to another use
	}
	return p.remove()
}

func (p *PIDFile) remove() error {
	defer p.file.Close()
	ours, err := p.ours()
	if ours {
		err = os.Remove(p.name)
	}
	switch {
	case errors.Is(err, fs.ErrPermission) || errors.Is(err, unix.EROFS):
		return p.file.Truncate(0)
	case errors.Is(err, fs.ErrNotExist):
		return nil
	}
	return err
}

// maxPIDText is the longest content of a pid file, in bytes: a number, and the
// white space that some put around it.
const maxPIDText = 32

// readPID returns the pid that f contains, 0 where it is empty. The error is
// ErrNotPID where it contains anything else.
func readPID(f io.ReaderAt) (int, error) {
	buf := make([]byte, maxPIDText+1)
	n, err := f.ReadAt(buf, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return 0, err
	}
	text := string(bytes.TrimSpace(buf[:n]))
	if n > maxPIDText || strings.Trim(text, "0123456789") != "" {
		return 0, ErrNotPID
	}
	pid, _ := strconv.Atoi(text) // what is too large is no process of this machine
	return pid, nil
}
