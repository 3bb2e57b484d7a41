// SPDX-License-Identifier: Apache-2.0

package underlay

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"sync"

	"golang.org/x/sys/unix"

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
	// is among them: the kernel does not tell it apart. So is what goes to
	// another port or VNI than the device's own, or by a given link.
	Entries []FloodEntry
	// Managed are the indexes of devices with any forwarding entry, of
	// whatever MAC, that another daemon has put there and says so (extern_learn).
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
type FDB struct {
	conn *conn
	mu   sync.Mutex // one Apply at a time: it reads before it writes
}

// OpenFDB connects to the kernel.
func OpenFDB() (*FDB, error) {
	c, err := dial()
	if err != nil {
		return nil, err
	}
	return &FDB{conn: c}, nil
}

// Close ends the connection to the kernel.
func (f *FDB) Close() { f.conn.close() }

// Read returns the flood entries of the device with this index, none if it is
// gone, or of all devices where it is 0.
func (f *FDB) Read(index int) (FloodTable, error) {
	t := FloodTable{Managed: make(map[int]struct{})}
	have, err := f.read(index, t.Managed)
	if err != nil {
		return FloodTable{}, err
	}
	t.Entries = make([]FloodEntry, 0, len(have))
	for e := range have {
		t.Entries = append(t.Entries, e)
	}
	return t, nil
}

// A way is how an entry's packets go where the device does not say it: zero
// where it does.
type way struct {
	port uint16
	vni  vxlan.VNI
	link int
}

// flooding are the entries there are, each with the ways that it is there in.
type flooding map[FloodEntry][]way

func (f *FDB) read(index int, managed map[int]struct{}) (flooding, error) {
	b := make([]byte, unix.SizeofNdMsg)
	b[0] = unix.AF_BRIDGE
	ne.PutUint32(b[4:], uint32(index))
	r := request{typ: unix.RTM_GETNEIGH, flags: unix.NLM_F_DUMP, body: b}
	have, err := gather(func(each func([]byte)) (int, error) { return f.conn.list(r, each) }, managed)
	if err != nil {
		return nil, fmt.Errorf("list forwarding entries: %w", err)
	}
	return have, nil
}

// gather takes in a listing of forwarding entries. Where it comes in several
// parts, the kernel counts entries to know where the next begins, so one that
// is removed meanwhile, of whatever MAC, hides another (vxlan_fdb_dump of
// drivers/net/vxlan/vxlan_core.c). Then the listing is repeated until it is as
// long as the one before: what all of them miss is gone.
func gather(list func(each func([]byte)) (int, error), managed map[int]struct{}) (flooding, error) {
	have := make(flooding)
	before := -1
	for range maxReadings {
		length := 0
		parts, err := list(func(b []byte) {
			length++
			have.take(b, managed)
		})
		if err != nil && !interrupted(err) {
			return nil, err
		}
		if err == nil && (parts <= 1 || length == before) {
			break
		}
		before = length
	}
	return have, nil
}

// maxReadings bounds how often a listing is repeated while entries come and go
// without a pause.
const maxReadings = 8

// take takes in a forwarding entry (struct ndmsg).
func (fl flooding) take(b []byte, managed map[int]struct{}) {
	if len(b) < unix.SizeofNdMsg || b[0] != unix.AF_BRIDGE {
		return
	}
	e := FloodEntry{Index: int(ne.Uint32(b[4:]))}
	flags := b[10]
	if flags&unix.NTF_EXT_LEARNED != 0 {
		managed[e.Index] = struct{}{}
	}
	if flags&unix.NTF_SELF == 0 {
		return
	}
	var w way
	zero := false
	for typ, v := range attributes(b, unix.SizeofNdMsg) {
		switch typ {
		case unix.NDA_LLADDR:
			zero = string(v) == zeroMAC
		case unix.NDA_DST:
			e.Dst, _ = fromIP(v)
		case unix.NDA_SRC_VNI:
			e.VNI = vxlan.VNI(number(v))
		case unix.NDA_PORT:
			if len(v) == 2 {
				w.port = binary.BigEndian.Uint16(v)
			}
		case unix.NDA_VNI:
			w.vni = vxlan.VNI(number(v))
		case unix.NDA_IFINDEX:
			w.link = int(number(v))
		}
	}
	// Only entries of VXLAN devices have a destination.
	if !zero || !e.Dst.IsValid() {
		return
	}
	for _, known := range fl[e] {
		if known == w {
			return // read twice
		}
	}
	fl[e] = append(fl[e], w)
}

const zeroMAC = "\x00\x00\x00\x00\x00\x00"
