// SPDX-License-Identifier: Apache-2.0

package logging

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// open opens a log file, and makes it if it does not exist. Root does not let
// others lead it to a file of their choice: in a directory that is not root's
// alone it follows no symbolic link, and takes no file that has another name.
func open(path string) (f *os.File, made bool, err error) {
	// O_NONBLOCK is for a FIFO that nobody reads: that is an error, not a
	// reason to wait for ever.
	flags := os.O_APPEND | os.O_WRONLY | syscall.O_NONBLOCK
	wary := os.Geteuid() == 0 && !rootsAlone(filepath.Dir(path))
	if wary {
		flags |= syscall.O_NOFOLLOW
	}
	f, err = os.OpenFile(path, flags, 0)
	if errors.Is(err, fs.ErrNotExist) {
		made = true
		if wary {
			flags |= os.O_EXCL
		}
		f, err = os.OpenFile(path, flags|os.O_CREATE, fileMode)
	}
	if errors.Is(err, syscall.ELOOP) && wary {
		return nil, false, fmt.Errorf("%s: a symbolic link in a directory that is not root's alone", path)
	}
	if err != nil || !wary {
		return f, made, err
	}
	var st syscall.Stat_t
	if err = syscall.Fstat(int(f.Fd()), &st); err == nil && st.Mode&syscall.S_IFMT == syscall.S_IFREG && st.Nlink > 1 {
		err = fmt.Errorf("%s: a file with other names in a directory that is not root's alone", path)
	}
	if err != nil {
		f.Close()
		return nil, false, err
	}
	return f, made, nil
}

// rootsAlone tells whether nobody but root can put anything into a directory.
func rootsAlone(dir string) bool {
	var st syscall.Stat_t
	return syscall.Stat(dir, &st) == nil && st.Uid == 0 && st.Mode&0o022 == 0
}
