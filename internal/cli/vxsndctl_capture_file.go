// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"
)

// captureMode is for tenants' traffic.
const captureMode = 0o600

// A captureFile is a file that a capture goes to. What it holds is whole at each
// moment, for whoever looks.
type captureFile struct {
	*os.File
	made  bool  // it was not there before
	begun bool  // nothing of what was there before is left
	whole int64 // how much of it are whole blocks
}

// openCaptureFile opens a file, and changes nothing in one that is there. What is
// no regular file is left alone: it cannot be made anew.
func openCaptureFile(name string) (*captureFile, error) {
	_, there := os.Stat(name)
	// Nobody may read a pipe that is there.
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|syscall.O_NONBLOCK, captureMode)
	elsewhere := "write to standard output instead: -w - > " + name
	switch {
	case errors.Is(err, syscall.ENXIO):
		return nil, &exitError{exitFailed, fmt.Errorf("-w: %s is not a regular file", name), elsewhere}
	case errors.Is(err, fs.ErrPermission):
		return nil, &exitError{exitFailed, fmt.Errorf("-w: %w", err), "use sudo, or write to another directory"}
	case err != nil:
		return nil, &exitError{exitFailed, fmt.Errorf("-w: %w", err), ""}
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = &exitError{exitFailed, fmt.Errorf("-w: %s is not a regular file", name), elsewhere}
	}
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return &captureFile{File: f, made: there != nil}, nil
}

// begin empties the file.
func (f *captureFile) begin() error {
	f.begun = true
	return f.Truncate(0)
}

// keep notes that what was written so far are whole blocks.
func (f *captureFile) keep() {
	if at, err := f.Seek(0, io.SeekCurrent); err == nil {
		f.whole = at
	}
}

// end closes the file. Where not all was written it takes away what the last write
// has left of a block, and the file itself where a capture that has not started
// has made it.
func (f *captureFile) end(started, written bool) (err error) {
	if f.begun && !written {
		err = f.Truncate(f.whole)
	}
	if f.made && !started {
		err = errors.Join(err, os.Remove(f.Name()))
	}
	return errors.Join(err, f.Close())
}
