// SPDX-License-Identifier: Apache-2.0

package logging

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"
)

// open opens a log file, and makes it with a mode, less the umask, if it does not
// exist. Root does not let others lead it to a file of their choice: in a directory
// that is not root's alone it follows no symbolic link, and takes no file that has
// another name.
func open(path string, mode os.FileMode) (f *os.File, made bool, err error) {
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
		f, err = os.OpenFile(path, flags|os.O_CREATE, mode)
	}
	if errors.Is(err, syscall.ELOOP) && wary {
		return nil, false, fmt.Errorf("%s: a symbolic link in a directory that is not root's alone", path)
	}
	if err != nil {
		return nil, false, err
	}
	if err := takes(f, wary); err != nil {
		f.Close()
		return nil, false, err
	}
	return f, made, nil
}

// takes returns why a file that is open is none that log lines may go to.
func takes(f *os.File, wary bool) error {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return &fs.PathError{Op: "stat", Path: f.Name(), Err: err}
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		var sfs unix.Statfs_t
		if err := unix.Fstatfs(int(f.Fd()), &sfs); err != nil {
			return &fs.PathError{Op: "statfs", Path: f.Name(), Err: err}
		}
		if slices.Contains(kernels, uint32(sfs.Type)) {
			return fmt.Errorf("%s: a file of the kernel's", f.Name())
		}
		if wary && st.Nlink > 1 {
			return fmt.Errorf("%s: a file with other names in a directory that is not root's alone", f.Name())
		}
		return nil
	case unix.S_IFIFO:
		return nil
	case unix.S_IFCHR:
		if _, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS); err == nil || harmless(st.Rdev) {
			return nil
		}
	}
	return fmt.Errorf("%s: neither a regular file, nor a FIFO, a terminal or /dev/null", f.Name())
}

// kernels are the file systems whose files set something of the kernel.
var kernels = []uint32{
	unix.PROC_SUPER_MAGIC, unix.SYSFS_MAGIC, unix.CGROUP_SUPER_MAGIC, unix.CGROUP2_SUPER_MAGIC, unix.DEBUGFS_MAGIC,
	unix.TRACEFS_MAGIC, unix.SECURITYFS_MAGIC, unix.SELINUX_MAGIC, unix.EFIVARFS_MAGIC, unix.BPF_FS_MAGIC,
}

// harmless tells whether a character device is /dev/null or /dev/full (null(4),
// full(4)).
func harmless(device uint64) bool {
	minor := unix.Minor(device)
	return unix.Major(device) == 1 && (minor == 3 || minor == 7)
}

// resemble gives a new file the owner, group and mode of the one whose place it
// takes. Where the group is not to be had the mode has nothing for it, so that
// nobody can read the new file who could not read the old one.
func resemble(f *os.File, old fs.FileInfo) error {
	mode := old.Mode().Perm()
	st, ok := old.Sys().(*syscall.Stat_t)
	if !ok || f.Chown(-1, int(st.Gid)) != nil {
		mode &^= 0o070
	}
	if err := f.Chmod(mode); err != nil || !ok {
		return err
	}
	_ = f.Chown(int(st.Uid), -1) // last, since it may be the end of what we may do; a user's own file stays so
	return nil
}

// rootsAlone tells whether nobody but root can put anything into a directory.
func rootsAlone(dir string) bool {
	var st syscall.Stat_t
	return syscall.Stat(dir, &st) == nil && st.Uid == 0 && st.Mode&0o022 == 0
}
