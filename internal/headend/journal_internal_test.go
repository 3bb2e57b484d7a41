// SPDX-License-Identifier: Apache-2.0

package headend

import (
	"bytes"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var testOptions = Options{Namespace: "ns", BootID: "boot"}

// testAddr returns one of many addresses, of lengths that differ.
func testAddr(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}) }

var sameAddr = cmp.Comparer(func(a, b netip.Addr) bool { return a == b })

// TestCompactIsSafeAtEachPoint looks at all states that a process killed while
// it compacts can leave: the live lines written to any length, and then the
// beginning overwritten to any length, twice.
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
			f, err := os.Create(filepath.Join(t.TempDir(), "state"))
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			j := &journal{o: testOptions, file: f}
			if err := j.reset(); err != nil {
				t.Fatal(err)
			}
			if err := j.append(all); err != nil {
				t.Fatal(err)
			}
			old := contentOf(t, f)
			if err := j.compact(live); err != nil {
				t.Fatal(err)
			}
			short := contentOf(t, f)
			want := Journaled(short, testOptions)
			if diff := cmp.Diff(header(testOptions)+string(live), string(short)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			for n := range live {
				check(t, want, old, live[:n])
			}
			long := append(bytes.Clone(old), live...)
			if len(old) < len(short) {
				long = append(long, live...)
			}
			h := len(header(testOptions))
			blots := blots(len(live))
			for n := range len(live) + 1 {
				check(t, want, long[:h], blots[:n], long[h+n:])
				check(t, want, long[:h], live[:n], blots[n:], long[h+len(live):])
			}
		})
	}
}

func contentOf(t *testing.T, f *os.File) []byte {
	t.Helper()
	b, err := os.ReadFile(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func check(t *testing.T, want map[Key][]netip.Addr, parts ...[]byte) {
	t.Helper()
	b := bytes.Join(parts, nil)
	if diff := cmp.Diff(want, Journaled(b, testOptions), sameAddr); diff != "" {
		t.Fatalf("of\n%s(-want +got):\n%s", b, diff)
	}
}

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
		c, err := read(bytes.NewReader(b), testOptions)
		if err != nil {
			t.Fatalf("got error %v, want none", err)
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
		again, err := read(bytes.NewReader(short), testOptions)
		if err != nil || again.bad > 0 {
			t.Fatalf("got %d bad lines, error %v, of what was written", again.bad, err)
		}
		if diff := cmp.Diff(Journaled(b, testOptions), Journaled(short, testOptions), sameAddr); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	})
}
