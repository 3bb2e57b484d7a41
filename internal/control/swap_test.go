// SPDX-License-Identifier: Apache-2.0

package control_test

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"vxsnd/internal/control"
)

// victim makes a file that is nobody else's, and returns a check that it still is
// what it was.
func victim(t *testing.T, path string) (check func()) {
	t.Helper()
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	return func() {
		t.Helper()
		file, err := os.Lstat(path)
		if err != nil {
			t.Fatal(err)
		}
		st := file.Sys().(*syscall.Stat_t)
		if file.Mode() != 0o600 || int(st.Uid) != os.Getuid() {
			t.Errorf("got a file with mode %v of user %d, want 0600 and %d", file.Mode(), st.Uid, os.Getuid())
		}
	}
}

// giveAway calls Chown, for another user where that is allowed.
func giveAway(s *control.Server) error {
	if os.Getuid() == 0 {
		return s.Chown(12345, 23456)
	}
	return s.Chown(os.Getuid(), os.Getgid())
}

func TestALinkInPlaceOfTheSocketIsNotFollowed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	check := victim(t, path+".victim")
	s := control.New(control.Options{Path: path})
	swap := func() {
		if err := errors.Join(os.Rename(path, path+".aside"), os.Symlink(path+".victim", path)); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.ListenWhile(swap); err == nil { // which takes a capability here
		if err := giveAway(s); err != nil {
			t.Error(err)
		}
		wantMode(t, path+".aside")
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	check()
}

func TestAFileInPlaceOfTheSocketIsLeftAlone(t *testing.T) {
	path := filepath.Join(mkdir(t), "s")
	if err := os.Chmod(filepath.Dir(path), 0o777); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"file", "link", "hard link to a socket"} {
		t.Run(name, func(t *testing.T) {
			// Without the capability Listen goes by the path.
			asNobody(t, func() {
				t.Cleanup(func() { _ = os.Remove(path) })
				s := control.New(control.Options{Path: path})
				err := s.ListenWhile(func() {
					err := os.Remove(path)
					switch name {
					case "file":
						err = errors.Join(err, os.WriteFile(path, nil, 0o600))
					case "link":
						err = errors.Join(err, os.Symlink("/dev/null", path))
					default:
						stale(t, path+".other")
						err = errors.Join(err, os.Link(path+".other", path))
					}
					if err != nil {
						t.Error(err)
					}
				})
				if want := "another file was put in its place"; err == nil || err.Error() != want {
					t.Errorf("got %v, want %s", err, want)
				}
				if err == nil {
					s.Close()
				}
			})
		})
	}
}

func TestSwappingTheSocketAllTheTimeGivesNoFileAway(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	check := victim(t, path+".victim")
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			default:
				_ = os.Symlink(path+".victim", path+".link")
				if os.Rename(path, path+".aside") == nil {
					_ = os.Rename(path+".link", path)
				}
				_ = os.Remove(path)
			}
		}
	}()
	for range 500 {
		s := control.New(control.Options{Path: path})
		if s.Listen() == nil {
			if err := giveAway(s); err != nil {
				t.Error(err)
			}
			_ = s.Close()
		}
	}
	close(stop)
	<-stopped
	check()
}
