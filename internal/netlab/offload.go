// SPDX-License-Identifier: Apache-2.0

package netlab

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ethtoolValue is struct ethtool_value of linux/ethtool.h.
type ethtoolValue struct {
	cmd, data uint32
}

// ethtoolRequest is struct ifreq of linux/if.h with a pointer in its union.
type ethtoolRequest struct {
	name [unix.IFNAMSIZ]byte
	data unsafe.Pointer
	_    [16]byte
}

// checksumInSoftware turns off the transmit checksum offload of a link. A veth
// never fills checksums in by itself, so with the offload on a capture at the
// other end shows half of one. Segmentation offload, which depends on it, goes
// too, so no frame is larger than the MTU.
func (n *Namespace) checksumInSoftware(dev string) error { return n.SetChecksumOffload(dev, false) }

// SetChecksumOffload turns the transmit checksum offload of a link on or off. On,
// as the kernel makes them, a veth hands on what is yet to be computed.
func (n *Namespace) SetChecksumOffload(dev string, on bool) error {
	err := n.Do(func() error {
		s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("socket: %w", err)
		}
		defer unix.Close(s)
		v := ethtoolValue{cmd: unix.ETHTOOL_STXCSUM}
		if on {
			v.data = 1
		}
		r := ethtoolRequest{data: unsafe.Pointer(&v)}
		copy(r.name[:unix.IFNAMSIZ-1], dev)
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(s), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&r)))
		if errno != 0 {
			return errno
		}
		return nil
	})
	return n.fail(err, "turn checksum offload of %s on or off", dev)
}
