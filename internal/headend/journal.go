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

// openJournal opens and locks the file, makes it if need be, and reads it. It
// leaves what is no journal as it was.
func openJournal(o Options, create bool) (*journal, content, error) {
	const tries = 3 // each time somebody must have removed the file meanwhile
	for range tries {
		f, err := openFile(o.StateFile, create)
		if err != nil {
			return nil, content{}, explain(o.StateFile, err)
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
			c := j.load()
			if c.kind == strange {
				err = explain(o.StateFile, fmt.Errorf("%w: holds something else than flood entries", errRefused))
			} else if err = f.Chmod(journalMode); err == nil {
				return j, c, nil
			}
		}
		_ = f.Close()
		if err != nil {
			return nil, content{}, err
		}
	}
	return nil, content{}, fmt.Errorf("state file: open %s: something keeps removing it", o.StateFile)
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

// load reads the content.
func (j *journal) load() content {
	c := read(io.NewSectionReader(j.file, 0, math.MaxInt64), j.o)
	j.size, j.kept = c.size, c.size
	return c
}

// inspect looks whether somebody else has made the file longer or shorter, and
// tells if that is news.
func (j *journal) inspect() bool {
	info, err := j.file.Stat()
	if err != nil || info.Size() == j.size {
		return false
	}
	if info.Size() < j.size {
		j.size = 0 // nothing of it can be relied on
	}
	was := j.behind
	j.behind = true
	return !was
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

// forget writes lines about entries that are not own any more. Where there is no
// room for them, the lines that say that they are own go instead, which needs
// none: else one that somebody makes before there is room would be taken for own
// after a crash.
func (j *journal) forget(lines []byte) error {
	if len(lines) == 0 {
		return nil
	}
	var err error
	if !j.behind {
		if err = j.append(lines); err == nil {
			return nil
		}
	}
	if berr := j.blot(lines); berr != nil {
		j.behind = true
		return errors.Join(err, berr)
	}
	return err
}

// blot strikes out the lines that say the opposite of these.
func (j *journal) blot(lines []byte) error {
	gone := make(map[string]struct{})
	for line := range bytes.Lines(lines) {
		gone["+"+string(line[1:])] = struct{}{}
	}
	b, err := io.ReadAll(io.NewSectionReader(j.file, 0, math.MaxInt64))
	at := int64(0)
	for line := range bytes.Lines(b) {
		if _, ok := gone[string(line)]; ok {
			_, werr := j.file.WriteAt(blots(len(line)), at)
			err = errors.Join(err, werr)
		}
		at += int64(len(line))
	}
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
	j.behind = true
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
