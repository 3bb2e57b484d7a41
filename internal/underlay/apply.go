// SPDX-License-Identifier: Apache-2.0

package underlay

import (
	"maps"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"
)

const (
	// batch is how many changes go into one system call. Their answers, with
	// about 1 KB of the kernel's memory each, fit any receive buffer.
	batch = 128

	// fewDevices are looked at one by one; of more, all are listed.
	fewDevices = 8
)

// Apply makes the changes in order, each whatever becomes of the others. It
// returns nil if all went well, else one error per change, nil for those that
// did. An entry to add that is there already, in whatever way, is an error that
// errors.Is finds as fs.ErrExist; one to remove that is not there as
// fs.ErrNotExist. What goes to a port, VNI or link of its own is not removed, nor
// is what has become the default destination of the device meanwhile: it is as if
// it were not there.
//
// The kernel itself says nothing of an entry that is there already, so Apply
// looks before: what others add in the milliseconds between is not noticed.
func (f *FDB) Apply(changes []FloodChange) []error {
	if len(changes) == 0 {
		return nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	errs := make([]error, len(changes))
	have, targets, err := f.look(changes)
	if err != nil {
		for i := range errs {
			errs[i] = err
		}
		return errs
	}
	var rs []request
	var of []int // the change that a request makes
	for i, c := range changes {
		to, key := targets[c.Index], have[c.FloodEntry]
		if c.Remove {
			if at := slices.IndexFunc(key, func(w way) bool { return to.removes(c.Dst, w) }); at >= 0 {
				rs, of = append(rs, floodRequest(c, key[at])), append(of, i)
				have[c.FloodEntry] = slices.Delete(slices.Clone(key), at, at+1)
			} else {
				errs[i] = unix.ENOENT
			}
		} else if len(key) > 0 {
			errs[i] = unix.EEXIST
		} else {
			rs, of = append(rs, floodRequest(c, to.way)), append(of, i)
			have[c.FloodEntry] = []way{to.way}
		}
	}
	for len(rs) > 0 {
		n := min(batch, len(rs))
		for k, err := range f.conn.do(rs[:n]) {
			errs[of[k]] = err
		}
		rs, of = rs[n:], of[n:]
	}
	if !slices.ContainsFunc(errs, func(err error) bool { return err != nil }) {
		return nil
	}
	return errs
}

// A target is a device whose entries are changed.
type target struct {
	way way // of this program's entries

	// The default destination, not valid where there is none, is an entry like
	// others, and the device goes without it once that is removed.
	remote netip.Addr
	via    way
}

// removes tells whether an entry to an address, in a way, is one to remove: it was
// added before the device's underlay came into its VRF, or in it.
func (t *target) removes(to netip.Addr, w way) bool {
	return (w == t.way || w == way{}) && !(to == t.remote && w == t.via)
}

// look returns the entries that the devices of changes have, and the devices.
func (f *FDB) look(changes []FloodChange) (flooding, map[int]target, error) {
	targets := make(map[int]target)
	for _, c := range changes {
		targets[c.Index] = target{}
	}
	indexes := slices.Collect(maps.Keys(targets))
	var all map[int]link
	if len(indexes) > fewDevices {
		links, err := f.conn.links(nil)
		if err != nil && !interrupted(err) {
			return nil, nil, err
		}
		all, indexes = links, []int{0}
	}
	find := func(i int) (link, bool) {
		if all != nil {
			l, ok := all[i]
			return l, ok
		}
		l, err := f.conn.link(i)
		return l, err == nil
	}
	have := make(flooding)
	for _, i := range indexes {
		more, err := f.read(i, make(map[int]struct{}))
		if err != nil {
			return nil, nil, err
		}
		maps.Copy(have, more)
	}
	for i := range targets {
		l, ok := find(i)
		if !ok {
			continue
		}
		var t target
		if !l.vx.external { // what an external device has is of no VNI
			t = target{remote: l.vx.remote, via: way{link: l.vx.lower}}
		}
		// An entry that names no link is routed in no VRF, also where the
		// device's underlay link is in one (vxlan_xmit_one).
		if l.vx.lower != 0 && !l.vx.elsewhere {
			if vrf, ok := vrfAbove(l.vx.lower, find); ok {
				t.way.link = vrf.index
			}
		}
		targets[i] = t
	}
	return have, targets, nil
}

// floodRequest is the message of a change (struct ndmsg).
func floodRequest(c FloodChange, w way) request {
	r := request{typ: unix.RTM_NEWNEIGH, flags: unix.NLM_F_ACK | unix.NLM_F_CREATE | unix.NLM_F_APPEND}
	if c.Remove {
		r = request{typ: unix.RTM_DELNEIGH, flags: unix.NLM_F_ACK}
	}
	b := make([]byte, unix.SizeofNdMsg, 64)
	b[0] = unix.AF_BRIDGE
	ne.PutUint32(b[4:], uint32(c.Index))
	ne.PutUint16(b[8:], unix.NUD_PERMANENT|unix.NUD_NOARP)
	b[10] = unix.NTF_SELF
	b = appendAttribute(b, unix.NDA_LLADDR, []byte(zeroMAC))
	b = appendAttribute(b, unix.NDA_DST, c.Dst.AsSlice())
	if c.VNI != 0 {
		b = appendAttribute(b, unix.NDA_SRC_VNI, ne.AppendUint32(nil, uint32(c.VNI)))
	}
	if w.link != 0 {
		b = appendAttribute(b, unix.NDA_IFINDEX, ne.AppendUint32(nil, uint32(w.link)))
	}
	r.body = b
	return r
}
