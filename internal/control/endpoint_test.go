// SPDX-License-Identifier: Apache-2.0

package control_test

import (
	"context"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"vxsnd/internal/control"
)

// withUmask sets the umask for the rest of the test. Other tests do not run
// meanwhile.
func withUmask(t *testing.T, mask int) {
	t.Helper()
	old := unix.Umask(mask)
	t.Cleanup(func() { unix.Umask(old) })
}

func wantMode(t *testing.T, path string) {
	t.Helper()
	file, err := os.Lstat(path)
	if err != nil || file.Mode() != fs.ModeSocket|0o660 {
		t.Errorf("got mode %v and %v, want a socket with mode 0660", file.Mode(), err)
	}
}

// stale leaves a socket behind that nobody listens at.
func stale(t *testing.T, path string) {
	t.Helper()
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	l.Close()
}

func TestTheSocketIsForOwnerAndGroupFromTheFirstMoment(t *testing.T) {
	withUmask(t, 0)
	path := filepath.Join(t.TempDir(), "s")
	l, err := control.Bind(path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	wantMode(t, path)
}

func TestTheUmaskDoesNotMatter(t *testing.T) {
	for _, mask := range []int{0, 0o027, 0o177} {
		t.Run(fmt.Sprintf("%03o", mask), func(t *testing.T) {
			dir := mkdir(t)
			withUmask(t, mask)
			h := start(t, control.Options{Path: filepath.Join(dir, "s")}, nil)
			wantMode(t, h.path)
		})
	}
}

// mkdir returns a directory that everybody can enter, whatever the umask is.
func mkdir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{dir, filepath.Dir(dir)} {
		if err := os.Chmod(name, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// asNobody calls fn without the power of root. Other tests do not run meanwhile.
func asNobody(t *testing.T, fn func()) {
	t.Helper()
	if os.Getuid() == 0 {
		if err := syscall.Setresuid(-1, 65534, -1); err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := syscall.Setresuid(-1, 0, -1); err != nil {
				panic(err)
			}
		}()
	}
	fn()
}

func TestAStaleSocketIsReplaced(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	stale(t, path)
	h := start(t, control.Options{Path: path}, nil)
	if err := h.client(t).Call(context.Background(), "count", nil, nil); err != nil {
		t.Errorf("got %v, want nil", err)
	}
}

func TestWhatIsInUseIsLeftAlone(t *testing.T) {
	dir := t.TempDir()
	tests := []struct {
		name string
		make func(path string) error
		want string
	}{
		{"live socket", func(path string) error {
			l, err := net.Listen("unix", path)
			if err == nil {
				t.Cleanup(func() { l.Close() })
			}
			return err
		}, fmt.Sprintf("process %d serves it", os.Getpid())},
		{"socket that is full", func(path string) error {
			fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
			if err != nil {
				return err
			}
			t.Cleanup(func() { unix.Close(fd) })
			if err := unix.Bind(fd, &unix.SockaddrUnix{Name: path}); err != nil {
				return err
			}
			if err := unix.Listen(fd, 0); err != nil {
				return err
			}
			c, err := net.Dial("unix", path)
			if err == nil {
				t.Cleanup(func() { c.Close() })
			}
			return err
		}, "another process serves it, and does not answer"},
		{"datagram socket", func(path string) error {
			c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path})
			if err == nil {
				t.Cleanup(func() { c.Close() })
			}
			return err
		}, "another process has a socket of another kind there"},
		{"file", func(path string) error { return os.WriteFile(path, nil, 0o600) }, "something that is no socket is in the way"},
		{"directory", func(path string) error { return os.Mkdir(path, 0o700) }, "something that is no socket is in the way"},
		{"link to a stale socket", func(path string) error {
			stale(t, path+".target")
			return os.Symlink(path+".target", path)
		}, "something that is no socket is in the way"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(dir, strings.ReplaceAll(tt.name, " ", "_"))
			if err := tt.make(path); err != nil {
				t.Fatal(err)
			}
			before, err := os.Lstat(path)
			if err != nil {
				t.Fatal(err)
			}
			s := control.New(control.Options{Path: path})
			if err, want := s.Listen(), "listen "+path+": "+tt.want; err == nil || err.Error() != want {
				t.Errorf("got %v, want %s", err, want)
			}
			if err := s.Close(); err != nil {
				t.Errorf("close: got %v, want nil", err)
			}
			if after, err := os.Lstat(path); err != nil || !os.SameFile(before, after) {
				t.Errorf("got another file or %v, want that which was there", err)
			}
		})
	}
}

func TestListenSaysWhatIsWrongWithThePath(t *testing.T) {
	dir := t.TempDir()
	for name, want := range map[string]string{
		"none/s":                 "no such file or directory",
		strings.Repeat("x", 108): "invalid argument",
	} {
		path := filepath.Join(dir, name)
		if err, want := control.New(control.Options{Path: path}).Listen(), "listen "+path+": "+want; err == nil || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

func TestCloseRemovesWhatListenMade(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	s := control.New(control.Options{Path: path})
	for range 2 {
		if err := s.Listen(); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if err := s.Close(); err != nil {
				t.Errorf("got %v, want nil", err)
			}
		}
		if _, err := os.Lstat(path); !os.IsNotExist(err) {
			t.Errorf("got %v, want no file", err)
		}
	}
}

func TestRunRemovesOnlyItsOwnFile(t *testing.T) {
	h := start(t, control.Options{}, nil)
	if err := os.Remove(h.path); err != nil {
		t.Fatal(err)
	}
	other := start(t, control.Options{Path: h.path}, nil)
	h.stop()
	if err := other.client(t).Call(context.Background(), "count", nil, nil); err != nil {
		t.Errorf("got %v, want nil", err)
	}
	other.stop()
	if _, err := os.Lstat(h.path); !os.IsNotExist(err) {
		t.Errorf("got %v, want no file", err)
	}
}

func TestADirectoryThatHoldsTheFileIsNoError(t *testing.T) {
	dir := mkdir(t)
	h := start(t, control.Options{Path: filepath.Join(dir, "s")}, nil)
	if err := os.Chmod(dir, 0o555); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.Chmod(dir, 0o700) })
	asNobody(t, h.stop)
	if _, err := os.Lstat(h.path); err != nil {
		t.Errorf("got %v, want the file", err)
	}
}

// wantGiven gives the file of a socket to another user and group, where root may.
func wantGiven(t *testing.T, path string, chown func(uid, gid int) error) {
	t.Helper()
	uid, gid := os.Getuid(), os.Getgid()
	if uid == 0 {
		uid, gid = 12345, 23456
	}
	if err := chown(uid, gid); err != nil {
		t.Fatal(err)
	}
	file, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	if st := file.Sys().(*syscall.Stat_t); int(st.Uid) != uid || int(st.Gid) != gid {
		t.Errorf("got owner %d:%d, want %d:%d", st.Uid, st.Gid, uid, gid)
	}
}

func TestChownGivesTheFileAway(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	s := control.New(control.Options{Path: path})
	if err := s.Listen(); err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	wantGiven(t, path, s.Chown)
	wantMode(t, path)
}
