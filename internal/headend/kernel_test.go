// SPDX-License-Identifier: Apache-2.0

package headend_test

import (
	"io/fs"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"syscall"
	"testing"

	"vxsnd/internal/underlay"
)

// A maker is who made an entry.
type maker int

const (
	us maker = iota
	others
)

// A kernel stands in for the kernel. Unlike it, it knows who made an entry. Its
// fields are for the test alone while nothing runs.
type kernel struct {
	t       *testing.T
	devices map[int]bool
	entries map[underlay.FloodEntry]maker
	managed map[int]struct{}

	// quiet has it take an entry to add that is there already without a word,
	// as Linux does.
	quiet bool

	// What is to go wrong.
	readErr error
	refuse  func(underlay.FloodChange) bool
	before  func(changes []underlay.FloodChange) // called by Apply
	crash   func() bool                          // asked before and after each change

	reads   []int
	applied []underlay.FloodChange // that changed something

	mu sync.Mutex // for sync
}

// sync lets what the test did before be seen by what Run does later of itself.
func (k *kernel) sync() {
	k.mu.Lock()
	defer k.mu.Unlock()
}

func newKernel(t *testing.T, devices ...int) *kernel {
	k := &kernel{t: t, devices: map[int]bool{}, entries: map[underlay.FloodEntry]maker{}, managed: map[int]struct{}{}, quiet: true}
	for _, d := range devices {
		k.devices[d] = true
	}
	return k
}

// crashed is what a killed process panics with.
type crashed struct{}

func (k *kernel) mayCrash() {
	if k.crash != nil && k.crash() {
		panic(crashed{})
	}
}

func (k *kernel) Read(index int) (underlay.FloodTable, error) {
	k.sync()
	k.mayCrash()
	k.reads = append(k.reads, index)
	t := underlay.FloodTable{Managed: map[int]struct{}{}}
	if k.readErr != nil {
		return t, k.readErr
	}
	for e := range k.entries {
		if index == 0 || e.Index == index {
			t.Entries = append(t.Entries, e)
		}
	}
	for d := range k.managed {
		if index == 0 || d == index {
			t.Managed[d] = struct{}{}
		}
	}
	return t, nil
}

func (k *kernel) Apply(changes []underlay.FloodChange) []error {
	k.sync()
	if k.before != nil {
		k.before(changes)
	}
	errs := make([]error, len(changes))
	bad := false
	for i, c := range changes {
		k.mayCrash()
		errs[i] = k.change(c)
		bad = bad || errs[i] != nil
	}
	k.mayCrash()
	if bad {
		return errs
	}
	return nil
}

func (k *kernel) change(c underlay.FloodChange) error {
	who, there := k.entries[c.FloodEntry]
	switch {
	case !k.devices[c.Index]:
		return syscall.ENODEV
	case !c.Remove && there && !k.quiet:
		return syscall.EEXIST
	case k.refuse != nil && k.refuse(c):
		return errTest
	case c.Remove && !there:
		return fs.ErrNotExist
	case c.Remove && who != us:
		k.t.Errorf("removed %v, which somebody else made", c.FloodEntry)
	case !c.Remove && there:
		return nil
	}
	k.applied = append(k.applied, c)
	if c.Remove {
		delete(k.entries, c.FloodEntry)
	} else {
		k.entries[c.FloodEntry] = us
	}
	return nil
}

// remake removes a device, with its entries, and makes one with another index.
func (k *kernel) remake(from, to int) {
	delete(k.devices, from)
	maps.DeleteFunc(k.entries, func(e underlay.FloodEntry, _ maker) bool { return e.Index == from })
	k.devices[to] = true
}

// by returns the addresses that somebody has put on a device.
func (k *kernel) by(who maker, index int) (addrs []netip.Addr) {
	for e, m := range k.entries {
		if e.Index == index && m == who {
			addrs = append(addrs, e.Dst)
		}
	}
	slices.SortFunc(addrs, netip.Addr.Compare)
	return addrs
}

func entry(index int, addr string) underlay.FloodEntry {
	return underlay.FloodEntry{Index: index, Dst: netip.MustParseAddr(addr)}
}

func addrs(list ...string) []netip.Addr {
	var out []netip.Addr
	for _, s := range list {
		out = append(out, netip.MustParseAddr(s))
	}
	return out
}
