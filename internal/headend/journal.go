// SPDX-License-Identifier: Apache-2.0

package headend

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"syscall"

	"vxsnd/internal/startup"
)

// ErrInUse says that another process has the state file.
var ErrInUse = errors.New("in use by another process")

// journalMode keeps the file to its owner: whoever may open it may lock it, and
// so keep the daemon from starting again.
const journalMode = 0o600

// compactFrom is the size in bytes below which a journal is left to grow.
const compactFrom = 64 << 10

// blots returns a line of n bytes that says nothing, nor does a part of it after
// the beginning of a line or before the end of one.
func blots(n int) []byte {
	b := bytes.Repeat([]byte{'#'}, n)
	if n > 0 {
		b[n-1] = '\n'
	}
	return b
}

// A disk is an *os.File, or in tests one that fails.
type disk interface {
	io.ReaderAt
	io.WriterAt
	Truncate(size int64) error
	Stat() (os.FileInfo, error)
	Close() error
}

// A journal is the file that says what is own, with a lock on it (flock(2)). It
// is for one goroutine. Its content outlives the process at every point, but is
// of no use after a crash of the machine, since its entries are gone then; so
// nothing is synced.
type journal struct {
	o    Options
	file disk
	size int64 // of what counts; the next lines go there
	kept int64 // of what was left when it was last made short

	// behind tells that it may name entries that are not own, since there was no
	// way to write so: it is made short before anything else is written.
	behind bool
}

// openJournal opens and locks the file, and makes it if need be.
func openJournal(o Options, create bool) (*journal, error) {
	const tries = 3 // each time somebody must have removed the file meanwhile
	for range tries {
		f, err := openFile(o.StateFile, create)
		if err != nil {
			return nil, explain(o.StateFile, err)
		}
		j := &journal{o: o, file: f}
		err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		switch {
		case errors.Is(err, syscall.EWOULDBLOCK):
			hint := "another vxrd runs, maybe in another network namespace: give each a file of its own (statefile)"
			if !create {
				hint = "a vxrd runs, maybe in another network namespace: stop it instead, it removes its flood entries by itself"
			}
			err = startup.New(fmt.Errorf("state file %s: %w", o.StateFile, ErrInUse), startup.ErrBind, hint)
		case err != nil:
			err = fmt.Errorf("state file: lock %s: %w", o.StateFile, err)
		case j.named():
			return j, nil
		}
		_ = f.Close()
		if err != nil {
			return nil, err
		}
	}
	return nil, fmt.Errorf("state file: open %s: something keeps removing it", o.StateFile)
}

// openFile opens the file, and makes it only if it is not there: with
// fs.protected_regular even root may not open with O_CREAT what is another's in
// a directory like /tmp (proc_sys_fs(5)).
func openFile(name string, create bool) (*os.File, error) {
	// With O_NONBLOCK a FIFO does not wait for its other end.
	const flags = os.O_RDWR | syscall.O_NOFOLLOW | syscall.O_NONBLOCK
	f, err := os.OpenFile(name, flags, 0)
	if errors.Is(err, fs.ErrNotExist) && create {
		f, err = os.OpenFile(name, flags|os.O_CREATE|os.O_EXCL, journalMode)
		if errors.Is(err, fs.ErrExist) {
			f, err = os.OpenFile(name, flags, 0)
		}
	}
	if err != nil {
		return nil, err
	}
	if err := ours(f); err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}

// errRefused says that a file is not one to keep a journal in.
var errRefused = errors.New("refused")

// ours returns an error unless f is a file that nobody else writes to: by it an
// entry is taken for our own. Root takes a file of the user whose directory it
// is in too, such as that of a daemon which has a user of its own.
func ours(f *os.File) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	st := info.Sys().(*syscall.Stat_t)
	switch {
	case !info.Mode().IsRegular():
		return fmt.Errorf("%w: not a regular file", errRefused)
	case st.Nlink > 1:
		return fmt.Errorf("%w: has another name (hard link)", errRefused)
	case int(st.Uid) != os.Geteuid() && !(os.Geteuid() == 0 && ownerOf(filepath.Dir(f.Name())) == int(st.Uid)):
		return fmt.Errorf("%w: belongs to another user (uid %d)", errRefused, st.Uid)
	case info.Mode().Perm() != journalMode:
		return f.Chmod(journalMode)
	}
	return nil
}

// ownerOf returns the user that a file belongs to, or -1.
func ownerOf(name string) int {
	info, err := os.Stat(name)
	if err != nil {
		return -1
	}
	return int(info.Sys().(*syscall.Stat_t).Uid)
}

// explain says what can be done about an error of opening the file.
func explain(name string, err error) error {
	var hint string
	kind := startup.ErrConfig
	switch {
	case errors.Is(err, errRefused), errors.Is(err, syscall.ELOOP), errors.Is(err, syscall.EISDIR):
		hint = "remove it, or name another file (statefile)"
	case errors.Is(err, fs.ErrNotExist):
		hint = fmt.Sprintf("make the directory %s, or name another file (statefile)", filepath.Dir(name))
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
		if errors.Is(err, fs.ErrPermission) {
			kind = startup.ErrPrivilege
		}
		hint = "let the user of vxrd write there (a unit's RuntimeDirectory= does), or name another file (statefile)"
	}
	if errors.Is(err, syscall.ELOOP) {
		err = fmt.Errorf("open %s: %w: is a symbolic link", name, errRefused)
	} else if errors.Is(err, errRefused) {
		err = fmt.Errorf("open %s: %w", name, err)
	}
	return startup.New(fmt.Errorf("state file: %w", err), kind, hint)
}

// named tells whether the name still stands for the open file.
func (j *journal) named() bool {
	open, err := j.file.Stat()
	if err != nil {
		return false
	}
	named, err := os.Lstat(j.o.StateFile)
	return err == nil && os.SameFile(open, named)
}

// load reads the content. The error is about what could not be read; what could
// be counts.
func (j *journal) load() (content, error) {
	c, err := read(io.NewSectionReader(j.file, 0, math.MaxInt64), j.o)
	j.size, j.kept = c.size, c.size
	return c, err
}

// reset empties the journal.
func (j *journal) reset() error {
	if err := j.file.Truncate(0); err != nil {
		return err
	}
	j.size, j.kept = 0, 0
	return j.append([]byte(header(j.o)))
}

// append writes lines. Where that fails, nothing is there of them.
func (j *journal) append(lines []byte) error {
	if len(lines) == 0 {
		return nil
	}
	if _, err := j.file.WriteAt(lines, j.size); err != nil {
		if j.file.Truncate(j.size) != nil {
			j.behind = true
		}
		return err
	}
	j.size += int64(len(lines))
	return nil
}

// forget writes lines about entries that are not own any more.
func (j *journal) forget(lines []byte) error {
	if j.behind {
		return nil // it is written as a whole first
	}
	err := j.append(lines)
	j.behind = j.behind || err != nil
	return err
}

// long tells whether the journal has grown to a multiple of what lives.
func (j *journal) long() bool { return !j.behind && j.size > max(compactFrom, 4*j.kept) }

// compact makes the journal say nothing but live, the lines of all entries that
// are own. It does so in place: the directory may be closed to a process that
// gave up its privileges, and the lock is on the file and not on its name.
//
// The process may be killed at every point. What lives is written to the end of
// the file first, so while the beginning is overwritten, an entry that lives has
// its line behind that, and one that does not has its last line there or none.
// Blots go where it is to be written, so that no line comes about that is half
// new and half old.
func (j *journal) compact(live []byte) error {
	j.behind = true
	if j.size == 0 {
		if err := j.reset(); err != nil {
			return err
		}
	}
	if err := j.file.Truncate(j.size); err != nil {
		return err
	}
	head, old := int64(len(header(j.o))), j.size
	size := head + int64(len(live))
	if err := j.append(live); err != nil {
		return err
	}
	if old > head { // so what lives was in there, and the end is behind size
		for _, b := range [][]byte{blots(len(live)), live} {
			if _, err := j.file.WriteAt(b, head); err != nil {
				return err
			}
		}
		if err := j.file.Truncate(size); err != nil {
			return err
		}
	}
	j.size, j.kept, j.behind = size, size, false
	return nil
}

func (j *journal) close() error { return j.file.Close() }
