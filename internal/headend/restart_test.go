// SPDX-License-Identifier: Apache-2.0

package headend_test

import (
	"bytes"
	"errors"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"vxsnd/internal/headend"
	"vxsnd/internal/underlay"
)

func TestRestartChangesNothing(t *testing.T) {
	k := newKernel(t, 5, 6)
	inBubble(t, k, func(t *testing.T, d *daemon) {
		d.set(one, "10.0.0.1", "10.0.0.2")
		d.set(two, "10.0.0.1")
		k.applied = nil
		d.restart()
		d.compare()
		want := map[headend.Key][]netip.Addr{one: addrs("10.0.0.1", "10.0.0.2"), two: addrs("10.0.0.1")}
		got := d.lists.Adopted()
		if !maps.EqualFunc(got, want, slices.Equal) {
			t.Errorf("got %v adopted, want %v", got, want)
		}
		got[one][0] = netip.Addr{} // a copy
		d.set(one, "10.0.0.1", "10.0.0.2")
		if len(k.applied) != 0 {
			t.Errorf("got changes %v, want none", k.applied)
		}
		if got := d.lists.Adopted(); len(got) != 1 {
			t.Errorf("got %v adopted, want only what was not named", got)
		}
		d.lists.Keep(map[headend.Key]struct{}{two: {}})
		d.compare()
		d.has(us, 6, "10.0.0.1")
		d.lists.Keep(nil)
		d.settle()
		d.has(us, 5, "10.0.0.1", "10.0.0.2")
		d.has(us, 6)
	})
}

func TestOnlyWhatIsInBothIsOwn(t *testing.T) {
	tests := []struct {
		name   string
		while  func(d *daemon) // the daemon does not run
		own    map[headend.Key][]netip.Addr
		others []string // on device 5
	}{
		{"removed", func(d *daemon) {
			delete(d.kernel.entries, entry(5, "10.0.0.1"))
		}, map[headend.Key][]netip.Addr{one: addrs("10.0.0.2")}, nil},
		{"added", func(d *daemon) {
			d.kernel.entries[entry(5, "10.0.0.3")] = others
		}, map[headend.Key][]netip.Addr{one: addrs("10.0.0.1", "10.0.0.2")}, []string{"10.0.0.3"}},
		{"device made again", func(d *daemon) {
			d.kernel.remake(5, 7)
			d.kernel.entries[entry(7, "10.0.0.1")] = others
		}, map[headend.Key][]netip.Addr{}, nil},
		{"machine started again", func(d *daemon) {
			d.options.BootID = "boot-2"
			d.kernel.remake(5, 5)
			d.kernel.entries[entry(5, "10.0.0.1")] = others
		}, map[headend.Key][]netip.Addr{}, []string{"10.0.0.1"}},
		{"another namespace", func(d *daemon) {
			d.options.Namespace = "ns-2"
			d.kernel.remake(5, 5)
			d.kernel.entries[entry(5, "10.0.0.2")] = others
		}, map[headend.Key][]netip.Addr{}, []string{"10.0.0.2"}},
		{"file removed", func(d *daemon) {
			if err := os.Remove(d.options.StateFile); err != nil {
				d.t.Error(err)
			}
			d.kernel.remake(5, 5)
			d.kernel.entries[entry(5, "10.0.0.2")] = others
		}, map[headend.Key][]netip.Addr{}, []string{"10.0.0.2"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			k := newKernel(t, 5)
			inBubble(t, k, func(t *testing.T, d *daemon) {
				d.set(one, "10.0.0.1", "10.0.0.2")
				d.end()
				tt.while(d)
				d.start()
				if got := d.lists.Adopted(); !maps.EqualFunc(got, tt.own, slices.Equal) {
					t.Errorf("got %v adopted, want %v", got, tt.own)
				}
				d.set(one, "10.0.0.1", "10.0.0.2")
				d.drop(one)
				d.has(us, 5)
				d.has(others, 5, tt.others...)
			})
		})
	}
}

// TestCrashAtEachPoint kills the daemon at each point of its way from one list
// to another, and looks that it neither loses an entry nor takes one for own.
func TestCrashAtEachPoint(t *testing.T) {
	for point, reached := 0, true; reached; point++ {
		k := newKernel(t, 5, 6)
		k.entries[entry(5, "10.0.0.9")] = others
		inBubble(t, k, func(t *testing.T, d *daemon) {
			d.set(one, "10.0.0.1", "10.0.0.2")
			left := point
			k.crash = func() bool { left--; return left < 0 }
			d.set(one, "10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.9")
			reached = left < 0
			k.crash = nil
			if crash := d.end(); crash != reached {
				t.Fatalf("point %d: got crash %v, want %v", point, crash, reached)
			}
			ours := k.by(us, 5)
			d.start()
			if got := d.lists.Adopted()[one]; !slices.Equal(got, ours) {
				t.Errorf("point %d: got %v adopted, want %v", point, got, ours)
			}
			if !slices.Contains(ours, netip.MustParseAddr("10.0.0.2")) {
				t.Errorf("point %d: got %v, want no change of 10.0.0.2", point, ours)
			}
			d.set(one, "10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.9")
			d.has(us, 5, "10.0.0.2", "10.0.0.3", "10.0.0.4")
			d.lists.Keep(nil)
			d.drop(one)
			d.has(us, 5)
			d.has(others, 5, "10.0.0.9")
		})
		if t.Failed() {
			return
		}
	}
}

func TestFullDisk(t *testing.T) {
	k := newKernel(t, 5)
	inBubble(t, k, func(t *testing.T, d *daemon) {
		d.set(one, "10.0.0.1", "10.0.0.2")
		free := d.lists.Fill()
		d.set(one, "10.0.0.2", "10.0.0.3")
		d.has(us, 5, "10.0.0.2")
		if got := d.lists.Status()[one].Problem; got == "" {
			t.Error("got no problem, want the disk's")
		}
		d.compare()
		if lines, _ := d.logged("state file cannot be written: no flood entries are added until it can"); lines != 1 {
			t.Errorf("got %d warnings, want 1", lines)
		}
		free()
		d.set(one, "10.0.0.2", "10.0.0.4")
		d.has(us, 5, "10.0.0.2", "10.0.0.4")
		d.problem(one, "")
		// What was removed meanwhile is not taken for own later.
		k.entries[entry(5, "10.0.0.1")] = others
		d.restart()
		if got, want := d.lists.Adopted()[one], addrs("10.0.0.2", "10.0.0.4"); !slices.Equal(got, want) {
			t.Errorf("got %v adopted, want %v", got, want)
		}
	})
}

// The daemon is killed while the disk is full: what it removed is not taken for
// own if somebody has made it again.
func TestCrashOnAFullDisk(t *testing.T) {
	k := newKernel(t, 5)
	inBubble(t, k, func(t *testing.T, d *daemon) {
		d.set(one, "10.0.0.1", "10.0.0.2", "10.0.0.3")
		d.lists.Fill()
		d.set(one, "10.0.0.2", "10.0.0.3")
		d.set(one, "10.0.0.2", "10.0.0.9")
		d.status(one, headend.Status{Wanted: 2, Own: 1})
		d.compare()
		d.set(one, "10.0.0.2")
		d.problem(one, "no space left on device")
		k.entries[entry(5, "10.0.0.1")] = others
		k.entries[entry(5, "10.0.0.3")] = others
		d.restart()
		if got, want := d.lists.Adopted()[one], addrs("10.0.0.2"); !slices.Equal(got, want) {
			t.Errorf("got %v adopted, want %v", got, want)
		}
		d.set(one)
		d.has(others, 5, "10.0.0.1", "10.0.0.3")
	})
}

// A journal that somebody has changed or removed is written anew, unless that is
// not possible without harm to what is in its place: then nothing is added.
func TestFileThatIsNotLeftAlone(t *testing.T) {
	const text = "[vxrd]\nhead_rep = true\n"
	write := func(name, content string, mode os.FileMode) error {
		if err := os.WriteFile(name+".new", []byte(content), mode); err != nil {
			return err
		}
		return os.Rename(name+".new", name)
	}
	tests := []struct {
		name    string
		harm    func(name string) error
		content string // stays; nothing is added
		warning string
	}{
		{"removed", os.Remove, "", "state file was removed: made again"},
		{"another one", func(name string) error {
			return write(name, "vxrd-flood-entries 1 ns-1 boot-0\n+ vxlan1 5 100 10.0.0.3\n", 0o644)
		}, "", "state file was removed: made again"},
		{"a copy", func(name string) error {
			b, err := os.ReadFile(name)
			if err != nil {
				return err
			}
			return write(name, string(b), 0o600)
		}, "", "state file was removed: made again"},
		{"emptied", func(name string) error {
			return os.Truncate(name, 0)
		}, "", "state file was changed by something else: written anew"},
		{"cut short", func(name string) error {
			return os.Truncate(name, 40)
		}, "", "state file was changed by something else: written anew"},
		{"longer", func(name string) error {
			return os.Truncate(name, 4000)
		}, "", "state file was changed by something else: written anew"},
		{"something else", func(name string) error {
			return write(name, text, 0o644)
		}, text, "state file cannot be written: no flood entries are added until it can"},
		{"directory removed", func(name string) error {
			return os.RemoveAll(filepath.Dir(name))
		}, "nothing", "state file cannot be written: no flood entries are added until it can"},
	}
	for _, tt := range tests {
		for _, first := range []string{"compare", "add", "remove"} {
			t.Run(tt.name+", "+first, func(t *testing.T) {
				k := newKernel(t, 5)
				inBubble(t, k, func(t *testing.T, d *daemon) {
					d.set(one, "10.0.0.1", "10.0.0.2")
					if err := tt.harm(d.options.StateFile); err != nil {
						t.Fatal(err)
					}
					switch first {
					case "compare":
						d.compare()
					case "remove":
						d.set(one, "10.0.0.1")
					}
					d.set(one, "10.0.0.1", "10.0.0.4")
					if lines, _ := d.logged(tt.warning); lines != 1 {
						t.Errorf("got %d warnings, want 1: %q", lines, tt.warning)
					}
					if tt.content == "" {
						d.problem(one, "")
						d.restart()
						if got, want := d.lists.Adopted()[one], addrs("10.0.0.1", "10.0.0.4"); !slices.Equal(got, want) {
							t.Errorf("got %v adopted, want %v", got, want)
						}
						return
					}
					d.has(us, 5, "10.0.0.1")
					d.compare()
					if d.lists.Status()[one].Problem == "" {
						t.Error("got no problem, want that of the state file")
					}
					if tt.content == text {
						b, err := os.ReadFile(d.options.StateFile)
						info, serr := os.Stat(d.options.StateFile)
						if err != nil || serr != nil || string(b) != text || info.Mode() != 0o644 {
							t.Errorf("got %q with mode %v, %v, want it as it was", b, info.Mode(), errors.Join(err, serr))
						}
						if err := os.Remove(d.options.StateFile); err != nil {
							t.Fatal(err)
						}
					} else if err := os.Mkdir(filepath.Dir(d.options.StateFile), 0o700); err != nil {
						t.Fatal(err)
					}
					d.compare()
					d.problem(one, "")
					d.has(us, 5, "10.0.0.1", "10.0.0.4")
				})
			})
		}
	}
}

func TestJournalStaysShort(t *testing.T) {
	k := newKernel(t, 5)
	inBubble(t, k, func(t *testing.T, d *daemon) {
		d.set(one, "10.0.0.9")
		for range 2000 {
			d.set(one, "10.0.0.1", "10.0.0.9")
			d.set(one, "10.0.0.2", "10.0.0.9")
		}
		b, err := os.ReadFile(d.options.StateFile)
		if err != nil || len(b) > 65<<10 {
			t.Errorf("got %d bytes, %v, want 65 KiB at most", len(b), err)
		}
		if got, want := headend.Journaled(b, d.options)[one], addrs("10.0.0.2", "10.0.0.9"); !slices.Equal(got, want) {
			t.Errorf("got %v in the journal, want %v", got, want)
		}
		d.restart()
		b, err = os.ReadFile(d.options.StateFile)
		if err != nil || bytes.Count(b, []byte("\n")) != 3 {
			t.Errorf("got %q, %v, want three lines", b, err)
		}
	})
}

func TestCleanup(t *testing.T) {
	k := newKernel(t, 5, 6)
	k.entries[entry(5, "10.0.0.9")] = others
	inBubble(t, k, func(t *testing.T, d *daemon) {
		clean := func(want int, wantErr error) {
			t.Helper()
			got, err := headend.Cleanup(d.options)
			if got != want || !errors.Is(err, wantErr) || wantErr == nil && err != nil {
				t.Errorf("got %d removed, error %v, want %d, %v", got, err, want, wantErr)
			}
		}
		d.set(one, "10.0.0.1", "10.0.0.2", "10.0.0.9")
		d.set(two, "10.0.0.1")
		clean(0, headend.ErrInUse)
		d.end()
		here := d.options.Namespace
		d.options.Namespace = "ns-2"
		clean(0, headend.ErrOtherSpace)
		d.options.Namespace = here
		for range 2 {
			if n, err := headend.Left(d.options); n != 3 || err != nil {
				t.Errorf("got %d left, error %v, want 3", n, err)
			}
		}
		clean(3, nil)
		clean(0, nil)
		d.has(us, 5)
		d.has(others, 5, "10.0.0.9")
		d.options.StateFile += ".absent"
		clean(0, nil)
		if _, err := os.Stat(d.options.StateFile); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("got %v, want no file", err)
		}
	})
}

// A device that gets another name keeps its entries, and whoever starts next
// knows that they are own.
func TestRenamedDeviceKeepsItsEntries(t *testing.T) {
	renamed := headend.Key{Device: "other", Index: one.Index, VNI: one.VNI}
	k := newKernel(t, 5)
	inBubble(t, k, func(t *testing.T, d *daemon) {
		d.set(one, "10.0.0.1", "10.0.0.2")
		k.entries[entry(5, "10.0.0.9")] = others
		k.applied = nil
		d.lists.Set(map[headend.Key][]netip.Addr{renamed: addrs("10.0.0.2", "10.0.0.3")})
		d.drop(one)
		want := []underlay.FloodChange{{FloodEntry: entry(5, "10.0.0.3")}, {FloodEntry: entry(5, "10.0.0.1"), Remove: true}}
		if !slices.Equal(k.applied, want) {
			t.Errorf("got changes %v, want %v", k.applied, want)
		}
		d.status(renamed, headend.Status{Wanted: 2, Own: 2, Foreign: 1})
		if got := len(d.lists.Status()); got != 1 {
			t.Errorf("got %d lists, want that of the new name alone", got)
		}
		d.restart()
		if got, want := d.lists.Adopted(), (map[headend.Key][]netip.Addr{renamed: addrs("10.0.0.2", "10.0.0.3")}); !maps.EqualFunc(got, want, slices.Equal) {
			t.Errorf("got %v adopted, want %v", got, want)
		}
	})
}

// A device that has the index of one that is gone has none of its entries.
func TestDeviceWithTheIndexOfAnother(t *testing.T) {
	other := headend.Key{Device: "other", Index: one.Index, VNI: one.VNI}
	k := newKernel(t, 5)
	inBubble(t, k, func(t *testing.T, d *daemon) {
		d.set(one, "10.0.0.1", "10.0.0.2")
		k.remake(5, 5)
		k.entries[entry(5, "10.0.0.9")] = others
		d.set(other, "10.0.0.2", "10.0.0.9")
		d.has(us, 5, "10.0.0.2")
		d.has(others, 5, "10.0.0.9")
		d.status(other, headend.Status{Wanted: 2, Own: 1, Foreign: 1})
	})
}
