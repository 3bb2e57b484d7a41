// SPDX-License-Identifier: Apache-2.0

package headend

import (
	"bytes"
	"net/netip"
	"os"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var testOptions = Options{Namespace: "ns", BootID: "boot"}

// testAddr returns one of many addresses, of lengths that differ.
func testAddr(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}) }

var sameAddr = cmp.Comparer(func(a, b netip.Addr) bool { return a == b })

// TestCompactIsSafeAtEachPoint looks at all states that a process which is killed
// while it compacts, or whose disk is full then, can leave.
func TestCompactIsSafeAtEachPoint(t *testing.T) {
	k := Key{Device: "vxlan1", Index: 5, VNI: 100}
	tests := []struct {
		name  string
		lines func() (all, live []byte)
	}{
		{"none lives", func() (all, live []byte) {
			for i := range 12 {
				all = appendLine(all, '+', k, testAddr(i*9))
				all = appendLine(all, '-', k, testAddr(i*9))
			}
			return all, nil
		}},
		{"all live", func() (all, live []byte) {
			for i := range 12 {
				all = appendLine(all, '+', k, testAddr(i*9))
			}
			return all, all
		}},
		{"the last lives", func() (all, live []byte) {
			for i := range 12 {
				all = appendLine(all, '-', k, testAddr(i))
				all = appendLine(all, '+', k, testAddr(i+1))
			}
			return all, appendLine(nil, '+', k, testAddr(12))
		}},
		{"the first live", func() (all, live []byte) {
			for i := range 8 {
				all = appendLine(all, '+', k, testAddr(i*9))
			}
			live = bytes.Clone(all)
			for i := range 10 {
				all = appendLine(all, '+', k, testAddr(i+1000))
				all = appendLine(all, '-', k, testAddr(i+1000))
			}
			return all, live
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			all, live := tt.lines()
			full := header(testOptions) + string(all)
			want := Journaled([]byte(full), testOptions)
			for point, done := 0, false; !done; point++ {
				d := &memDisk{b: []byte(full), left: point}
				j := &journal{o: testOptions, file: d, size: int64(len(full))}
				err := j.compact(live)
				done = err == nil
				// Killed, it does not take back what it wrote last.
				for _, b := range [][]byte{d.b, d.last} {
					if diff := cmp.Diff(want, Journaled(b, testOptions), sameAddr); diff != "" {
						t.Fatalf("after %d bytes, of\n%s(-want +got):\n%s", point, b, diff)
					}
				}
				d.left = 1 << 20
				if err := j.compact(live); err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(header(testOptions)+string(live), string(d.b)); diff != "" {
					t.Fatalf("after %d bytes (-want +got):\n%s", point, diff)
				}
			}
		})
	}
}

func TestAppendIsAllOrNothing(t *testing.T) {
	k := Key{Device: "vxlan1", Index: 5, VNI: 100}
	full := header(testOptions) + string(appendLine(nil, '+', k, testAddr(1)))
	more := appendLine(appendLine(nil, '+', k, testAddr(2)), '+', k, testAddr(3))
	for room := range len(more) {
		d := &memDisk{b: []byte(full), left: room}
		j := &journal{o: testOptions, file: d, size: int64(len(full))}
		if err := j.append(more); err == nil || j.behind || string(d.b) != full {
			t.Errorf("room for %d: got error %v, behind %v, %q, want an error and %q", room, err, j.behind, d.b, full)
		}
	}
}

// A memDisk takes as many bytes as there are left.
type memDisk struct {
	b    []byte
	left int
	last []byte // what it held after the last write
}

func (d *memDisk) WriteAt(b []byte, off int64) (n int, err error) {
	n = min(len(b), d.left)
	d.left -= n
	if more := int(off) + n - len(d.b); more > 0 {
		d.b = append(d.b, make([]byte, more)...)
	}
	copy(d.b[off:], b[:n])
	if n < len(b) {
		err = syscall.ENOSPC
	}
	d.last = bytes.Clone(d.b)
	return n, err
}

func (d *memDisk) ReadAt(b []byte, off int64) (int, error) {
	return bytes.NewReader(d.b).ReadAt(b, off)
}
func (d *memDisk) Truncate(size int64) error  { d.b = d.b[:size]; return nil }
func (d *memDisk) Stat() (os.FileInfo, error) { return nil, syscall.ENOSYS }
func (d *memDisk) Close() error               { return nil }

func TestFilter(t *testing.T) {
	list := func(s ...int) (out []netip.Addr) {
		for _, i := range s {
			out = append(out, testAddr(i))
		}
		return out
	}
	tests := []struct {
		name           string
		a, b           []netip.Addr
		both, without  []netip.Addr
		unionWithOther []netip.Addr
	}{
		{"empty", nil, nil, nil, nil, nil},
		{"no other", list(1, 2), nil, nil, list(1, 2), list(1, 2)},
		{"none", nil, list(1, 2), nil, nil, list(1, 2)},
		{"apart", list(1, 3), list(2, 4), nil, list(1, 3), list(1, 2, 3, 4)},
		{"same", list(1, 2, 3), list(1, 2, 3), list(1, 2, 3), nil, list(1, 2, 3)},
		{"some", list(1, 2, 5, 7), list(0, 2, 6, 7, 8), list(2, 7), list(1, 5), list(0, 1, 2, 5, 6, 7, 8)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for _, c := range []struct {
				what      string
				got, want []netip.Addr
			}{{"both", both(tt.a, tt.b), tt.both}, {"without", without(tt.a, tt.b), tt.without}, {"union", union(tt.a, tt.b), tt.unionWithOther}} {
				if diff := cmp.Diff(c.want, c.got, sameAddr); diff != "" {
					t.Errorf("%s (-want +got):\n%s", c.what, diff)
				}
			}
		})
	}
}

// FuzzRead looks that no content does harm, and that what is read of one is what
// is read of what it is made short to.
func FuzzRead(f *testing.F) {
	h := header(testOptions)
	f.Add([]byte(""))
	f.Add([]byte(h + "+ vxlan1 5 100 10.0.0.1\n- vxlan1 5 100 10.0.0.1\n+ vxlan1 5 100 2001:db8::1\n"))
	f.Add([]byte(h + "+ br 7 1 10.0.0.1 external\n+ br 7 1 10.0.0.2 external\n"))
	f.Add([]byte(h + "+ vxlan1 5 100 10.0.0.1\n+ vxlan1 5 1"))
	f.Add([]byte("vxrd-flood-entries 1 ns other\n+ vxlan1 5 100 10.0.0.1\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		c := read(bytes.NewReader(b), testOptions)
		if c.err != nil {
			t.Fatalf("got error %v, want none", c.err)
		}
		if c.size > int64(len(b)) || c.kind != same && len(c.lists) > 0 {
			t.Fatalf("got %+v of %d bytes", c, len(b))
		}
		short := []byte(h)
		for k, set := range c.lists {
			for a := range set {
				short = appendLine(short, '+', k, a)
			}
		}
		again := read(bytes.NewReader(short), testOptions)
		if again.err != nil || again.bad > 0 {
			t.Fatalf("got %d bad lines, error %v, of what was written", again.bad, again.err)
		}
		if diff := cmp.Diff(Journaled(b, testOptions), Journaled(short, testOptions), sameAddr); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	})
}
