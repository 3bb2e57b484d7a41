// SPDX-License-Identifier: Apache-2.0

package tc

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"os"

	"vxsnd/internal/fdb"
	"vxsnd/internal/vxlan"
)

// A sample is a packet that the program picked for a look.
type sample struct {
	time fdb.Time
	vni  vxlan.VNI
	src  netip.AddrPort
	ttl  uint8
	size int    // of the payload
	head []byte // its first bytes
}

// The layout of struct sample in maps.bpf.h.
const (
	sampleHead   = 24
	sampleLength = sampleHead + len(programSample{}.Head)
)

// parseSample reads a sample. Its head is part of b.
func parseSample(b []byte) (sample, bool) {
	if len(b) < sampleLength {
		return sample{}, false
	}
	ne := binary.NativeEndian
	size := int(ne.Uint32(b[20:]))
	return sample{
		time: fdb.Time(ne.Uint64(b)),
		vni:  vxlan.VNI(ne.Uint32(b[8:])),
		src:  netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[12:])), binary.BigEndian.Uint16(b[16:])),
		ttl:  b[18],
		size: size,
		head: b[sampleHead:sampleLength],
	}, true
}

func isTimeout(err error) bool { return errors.Is(err, os.ErrDeadlineExceeded) }
