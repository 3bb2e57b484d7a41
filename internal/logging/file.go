// SPDX-License-Identifier: Apache-2.0

package logging

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/sirupsen/logrus"
)

const (
	// fileMode lets the group read the log: it names addresses of customers'
	// networks, which are not for everybody.
	fileMode = 0o640

	// privateMode is for a file that is still to get its mode.
	privateMode = 0o600

	// rotateAgain is how long a file that could not be rotated just grows.
	rotateAgain = time.Minute
)

// limits says how large a file may be and how many older ones are kept.
type limits struct {
	size    int64
	backups int
}

// A file is a log file, or a device or FIFO that takes its place.
type file struct {
	path    string                 // as it was named
	limits  atomic.Pointer[limits] // may change at any time
	compose composer
	repeats Limiter // of warnings

	f       *os.File
	made    bool   // by opening it
	target  string // path without symbolic links: what is rotated
	regular bool
	size    int64
	torn    bool // the last line has no end

	held      bool          // not to be rotated yet
	notBefore time.Time     // for the next attempt to rotate
	packing   chan error    // has the result of compressing, nil while nobody does
	quit      chan struct{} // closed to end compressing
}

func openFile(o Options) (*file, error) {
	f := &file{path: o.Path, held: o.Hold, quit: make(chan struct{})}
	f.limit(o)
	if err := f.reopen(); err != nil {
		return nil, err
	}
	return f, nil
}

// limit takes the limits of o. It may be called concurrently with all else.
func (f *file) limit(o Options) { f.limits.Store(&limits{o.MaxSize, o.Backups}) }

func (f *file) reopen() error { return f.openAs(nil) }

// openAs opens the file by its name. If that makes it, it gets owner and mode of
// old, where that is not nil.
func (f *file) openAs(old fs.FileInfo) error {
	mode := fs.FileMode(fileMode)
	if old != nil {
		mode = privateMode
	}
	n, made, err := open(f.path, mode)
	if err != nil {
		return logFileError(err)
	}
	if made && old != nil {
		if err := resemble(n, old); err != nil {
			n.Close()
			return err
		}
	}
	info, err := n.Stat()
	if err != nil {
		n.Close()
		return logFileError(err)
	}
	target, err := filepath.EvalSymlinks(f.path)
	if err != nil {
		target = f.path
	}
	if f.f != nil {
		f.f.Close()
	}
	f.f, f.made, f.target = n, made, target
	f.regular, f.size, f.torn = info.Mode().IsRegular(), info.Size(), false
	f.notBefore = time.Time{}
	return nil
}

// logFileError says what it is that cannot be opened; the system's error has the name.
func logFileError(err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return fmt.Errorf("open log file %s: %w", pe.Path, pe.Err)
	}
	return fmt.Errorf("open log file: %w", err)
}

func (f *file) start(c composer) {
	f.compose = c
	f.resume()
}

func (f *file) write(l line) error {
	f.reap()
	if f.due(int64(len(l.text))) {
		f.notBefore = time.Now().Add(rotateAgain)
		if err := f.rotate(); err != nil {
			f.warn("log file not rotated", err)
		}
	}
	return f.append(l.text)
}

// append writes text as a line of its own, also after one that is torn because
// the disk was full.
func (f *file) append(text []byte) error {
	if f.torn {
		text = append([]byte{'\n'}, text...)
	}
	if !f.regular {
		// What cannot have a deadline needs none.
		_ = f.f.SetWriteDeadline(time.Now().Add(patience))
	}
	n, err := f.f.Write(text)
	if n > 0 {
		f.size += int64(n)
		f.torn = text[n-1] != '\n'
	}
	return err
}

// warn says in the log what is wrong with it.
func (f *file) warn(message string, err error) {
	f.repeats.Do(message, func(count int) {
		// A full disk is told by the lines that are lost.
		_ = f.append(f.compose(logrus.WarnLevel, message, logrus.Fields{logrus.ErrorKey: err, "count": count}).text)
	})
}

// chown gives the file away, unless it is a link: who may write to the directory
// could have root give away any file. A third user's file stays that user's.
func (f *file) chown(uid, gid int) error {
	if !f.regular {
		return nil
	}
	own, err := f.f.Stat()
	if err != nil {
		return err
	}
	named, err := os.Lstat(f.path)
	if err != nil {
		return err
	}
	if st, ok := own.Sys().(*syscall.Stat_t); !ok || st.Nlink > 1 || !os.SameFile(named, own) {
		return fmt.Errorf("chown %s: it is a link", f.path)
	} else if st.Uid != 0 && int(st.Uid) != os.Geteuid() && int(st.Uid) != uid {
		return fmt.Errorf("chown %s: it belongs to user %d", f.path, st.Uid)
	}
	return f.f.Chown(uid, gid)
}

// reopenable tries whether the name can be opened, which a file that is there
// already allows without making one.
func (f *file) reopenable() error {
	if !f.regular {
		return nil
	}
	try, err := os.OpenFile(f.path, os.O_WRONLY|os.O_APPEND|syscall.O_NONBLOCK, 0)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil // somebody has moved it
	case err != nil:
		return logFileError(err)
	}
	return try.Close()
}

func (f *file) close() error {
	close(f.quit)
	if f.packing != nil {
		<-f.packing
	}
	return f.f.Close()
}

// discard closes a file that was never written to, and leaves no trace of it.
func (f *file) discard() {
	f.f.Close()
	if f.made {
		os.Remove(f.path)
	}
}
