// SPDX-License-Identifier: Apache-2.0

package underlay

import (
	"net/netip"

	"vxsnd/internal/vxlan"
)

// A FloodEntry is a destination of a VXLAN device for what it cannot place: a
// forwarding entry of the all-zero MAC (bridge(8), fdb append).
type FloodEntry struct {
	// Index is that of the device.
	Index int
	// VNI that the entry is for, where the device is external, else 0.
	VNI vxlan.VNI
	Dst netip.Addr
}

// A FloodTable is what the kernel has.
type FloodTable struct {
	// Entries are distinct, in no order. The default destination of a device
	// is among them: the kernel does not tell it apart.
	Entries []FloodEntry
	// Managed are the indexes of devices with any forwarding entry that
	// another daemon has put there and says so (extern_learn).
	Managed map[int]struct{}
}

// A FloodChange adds an entry, or removes it.
type FloodChange struct {
	FloodEntry
	Remove bool
}

// An FDB reads and changes the flood entries of the VXLAN devices of a network
// namespace: that of the thread that OpenFDB ran on. It may be used
// concurrently. Reading needs no capability, changing CAP_NET_ADMIN.
type FDB struct{}

// OpenFDB connects to the kernel.
func OpenFDB() (*FDB, error) { return &FDB{}, nil }

// Close ends the connection to the kernel.
func (f *FDB) Close() {}

// Read returns the flood entries of the device with this index, or of all
// devices where it is 0.
func (f *FDB) Read(index int) (FloodTable, error) { return FloodTable{}, nil }

// Apply makes the changes in order, each whatever becomes of the others. It
// returns nil if all went well, else one error per change, nil for those that
// did. An entry to add that is there already is an error that errors.Is finds
// as fs.ErrExist, one to remove that is not there as fs.ErrNotExist.
func (f *FDB) Apply(changes []FloodChange) []error { return nil }
