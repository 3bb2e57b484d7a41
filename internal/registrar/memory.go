// SPDX-License-Identifier: Apache-2.0

package registrar

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"vxsnd/internal/config"
	"vxsnd/internal/underlay"
)

const (
	// memorySuffix makes the name of the file out of that of the state file.
	memorySuffix = ".id"

	// memoryMagic is what the file begins with.
	memoryMagic = "vxrd node_id: "
)

// errStrange says that a file is not one to remember an identifier in.
var errStrange = errors.New("holds something else than an identifier")

// A memory keeps the identifier of registrations over a restart, in a file beside
// the state file: the local address that it is made of may not be the lowest one
// any more, and under another identifier nothing could be withdrawn or replaced.
// It is locked (flock(2)), and stays open, since the daemon may not open it as the
// user that it becomes.
type memory struct {
	file  *os.File
	place string // where the identifier counts: namespace, boot and VRF
}

// openMemory opens the memory of a registrar and returns what is in it, 0 for
// nothing that counts here.
func openMemory(c *config.Config) (*memory, uint64, error) {
	namespace, err := underlay.NamespaceID()
	if err != nil {
		return nil, 0, err
	}
	boot, err := underlay.BootID()
	if err != nil {
		return nil, 0, err
	}
	m := &memory{place: fmt.Sprintf("namespace %s boot %s vrf %q", namespace, boot, c.VRF)}
	if m.file, err = openRegular(c.StateFile + memorySuffix); err != nil {
		return nil, 0, err
	}
	id, err := m.read()
	if err != nil {
		_ = m.file.Close()
		return nil, 0, fmt.Errorf("%s: %w", m.file.Name(), err)
	}
	return m, id, nil
}

// openRegular opens a regular file, and makes it only if it is not there: with
// fs.protected_regular even root may not open with O_CREAT what is another's in
// a directory like /tmp (proc_sys_fs(5)).
func openRegular(name string) (*os.File, error) {
	// With O_NONBLOCK a FIFO does not wait for its other end.
	const flags = os.O_RDWR | unix.O_NOFOLLOW | unix.O_NONBLOCK
	f, err := os.OpenFile(name, flags, 0)
	if errors.Is(err, fs.ErrNotExist) {
		f, err = os.OpenFile(name, flags|os.O_CREATE|os.O_EXCL, 0o600)
	}
	if err != nil {
		return nil, err
	}
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		_ = f.Close()
		return nil, errors.Join(err, fmt.Errorf("%s: not a regular file", name))
	}
	return f, nil
}

// read locks the file and returns the identifier in it.
func (m *memory) read() (id uint64, err error) {
	if err := unix.Flock(int(m.file.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return 0, fmt.Errorf("lock: %w", err)
	}
	b, err := io.ReadAll(io.LimitReader(m.file, 4096))
	if err != nil || len(b) == 0 {
		return 0, err
	}
	line, ok := strings.CutPrefix(string(b), memoryMagic)
	if !ok {
		return 0, errStrange
	}
	// What cannot be read, or is of another place, is as good as nothing.
	word, place, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
	if id, err = strconv.ParseUint(word, 0, 48); err != nil || place != m.place {
		return 0, nil
	}
	return id, nil
}

// keep writes the identifier.
func (m *memory) keep(id uint64) error {
	line := fmt.Sprintf("%s%s %s\n", memoryMagic, shownID(id), m.place)
	_, err := m.file.WriteAt([]byte(line), 0)
	if err == nil {
		err = m.file.Truncate(int64(len(line)))
	}
	return err
}
