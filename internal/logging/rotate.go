// SPDX-License-Identifier: Apache-2.0

package logging

import (
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// The file NAME becomes NAME.1, which is compressed to NAME.1.gz while lines go
// on. A crash leaves NAME.1 behind, alone or beside a NAME.1.gz made of it: the
// next start compresses it again.
const (
	packedSuffix = ".gz"
	tempSuffix   = ".gz.tmp"

	// maxBackups is the highest number that is taken for one of rotation: a
	// NAME.20260131 is not.
	maxBackups = 10_000
)

// errQuit ends compressing when the log is closed.
var errQuit = errors.New("log is closed")

// due tells whether the file is to be rotated before more bytes come. While the
// last one is being compressed it just grows: that takes a moment, and waiting
// for it could cost lines.
func (f *file) due(more int64) bool {
	max := f.limits.Load().size
	return f.regular && !f.held && max > 0 && f.size > 0 && f.size+more > max &&
		f.packing == nil && !time.Now().Before(f.notBefore)
}

// rotate starts a new file. The old one goes on if that is not possible, or if
// the name is not that of the old one any more: then somebody else rotates.
func (f *file) rotate() error {
	named, err := os.Lstat(f.target)
	if err != nil {
		return nil
	}
	own, err := f.f.Stat()
	if err != nil {
		return err
	}
	if !os.SameFile(named, own) {
		return nil
	}
	backups := f.limits.Load().backups
	if backups == 0 {
		return f.empty()
	}
	if err := f.shift(backups); err != nil {
		return err
	}
	first := f.target + ".1"
	if err := os.Rename(f.target, first); err != nil {
		return err
	}
	if err := f.openAs(own); err != nil {
		return errors.Join(err, os.Rename(first, f.target))
	}
	f.pack()
	return nil
}

// empty takes the place of rotation where no older file is kept.
func (f *file) empty() error {
	if err := f.f.Truncate(0); err != nil {
		return err
	}
	f.size, f.torn, f.notBefore = 0, false, time.Time{}
	return f.shift(0)
}

// shift makes NAME.1 free: each older file moves up one number, as far as the
// first that is not in use, and those past the number to keep are removed.
func (f *file) shift(backups int) error {
	older, err := f.older()
	if err != nil {
		return err
	}
	free := 1
	for len(older[free]) > 0 {
		free++
	}
	var numbers []int
	for n := range older {
		numbers = append(numbers, n)
	}
	slices.Sort(numbers)
	for _, n := range slices.Backward(numbers) {
		to := n
		if n < free {
			to++
		}
		for _, suffix := range older[n] {
			name := f.target + "." + strconv.Itoa(n) + suffix
			switch {
			case to > backups:
				err = os.Remove(name)
			case to != n:
				err = os.Rename(name, f.target+"."+strconv.Itoa(to)+suffix)
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// older finds what earlier rotations left: for each number the suffixes.
func (f *file) older() (map[int][]string, error) {
	dir, base := filepath.Split(f.target)
	entries, err := os.ReadDir(filepath.Clean(dir))
	if err != nil {
		return nil, err
	}
	older := make(map[int][]string)
	for _, e := range entries {
		rest, ok := strings.CutPrefix(e.Name(), base+".")
		if !ok {
			continue
		}
		digits, packed := strings.CutSuffix(rest, packedSuffix)
		n, err := strconv.Atoi(digits)
		if err != nil || n < 1 || n > maxBackups || strconv.Itoa(n) != digits {
			continue
		}
		suffix := ""
		if packed {
			suffix = packedSuffix
		}
		older[n] = append(older[n], suffix)
	}
	return older, nil
}

// resume compresses what an earlier process left uncompressed.
func (f *file) resume() {
	l := f.limits.Load()
	if !f.regular || f.held || f.packing != nil || l.size == 0 || l.backups == 0 {
		return
	}
	if _, err := os.Lstat(f.target + ".1"); err == nil {
		f.pack()
	}
}

// pack compresses NAME.1 in a goroutine, which reap and close wait for.
func (f *file) pack() {
	done := make(chan error, 1)
	f.packing = done
	name := f.target + ".1"
	go func() { done <- compress(name, f.quit) }()
}

// reap takes the result of pack if there is one.
func (f *file) reap() {
	select {
	case err := <-f.packing:
		f.packing = nil
		if err != nil {
			f.warn("log file not compressed", err)
		}
	default:
	}
}

// compress makes name.gz of name, which is there in full or not at all.
func compress(name string, quit <-chan struct{}) (err error) {
	// O_NOFOLLOW and O_EXCL: a name that somebody else made must not lead root
	// elsewhere, nor a FIFO hold it up.
	in, err := os.OpenFile(name, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer in.Close()
	info, err := in.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return errors.Join(err, fmt.Errorf("compress %s: not a regular file", name))
	}
	temp := name + tempSuffix
	os.Remove(temp) // of a process that did not get to its end
	out, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, privateMode)
	if err != nil {
		return err
	}
	defer func() {
		if e := out.Close(); err == nil {
			err = e
		}
		if err == nil {
			err = os.Rename(temp, name+packedSuffix)
		}
		if err != nil {
			os.Remove(temp)
			return
		}
		err = os.Remove(name)
	}()
	if err := resemble(out, info); err != nil {
		return err
	}
	z := gzip.NewWriter(out)
	if _, err := io.Copy(z, stoppable{in, quit}); err != nil {
		return err
	}
	return z.Close()
}

// stoppable is a reader that fails once quit is closed.
type stoppable struct {
	io.Reader
	quit <-chan struct{}
}

func (s stoppable) Read(b []byte) (int, error) {
	select {
	case <-s.quit:
		return 0, errQuit
	default:
		return s.Reader.Read(b)
	}
}

// rotatable tries what rotate needs, and lets rotation begin.
func (f *file) rotatable() error {
	if f.held {
		f.held = false
		f.resume()
	}
	l := f.limits.Load()
	if !f.regular || l.size == 0 || l.backups == 0 {
		return nil
	}
	if _, err := f.older(); err != nil {
		return err
	}
	temp, err := os.CreateTemp(filepath.Dir(f.target), filepath.Base(f.target)+".try")
	if err != nil {
		return err
	}
	return errors.Join(temp.Close(), os.Remove(temp.Name()))
}
