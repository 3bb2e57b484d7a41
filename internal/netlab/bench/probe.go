// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"vxsnd/internal/netlab"
	"vxsnd/internal/vxlan"
)

const (
	// probeEvery is the time between two packets to a node.
	probeEvery = time.Millisecond

	// Offsets in an Ethernet frame with an IPv4 header of 20 bytes and a VXLAN
	// packet: see probeFrame for what is in the inner frame.
	offProtocol = 23
	offDst      = 30
	offPort     = 36
	offVNI      = 46
	offNode     = 64
	offNumber   = 65
	probeLen    = 69

	// experimental is an EtherType for experiments (IEEE 802).
	experimental = 0x88b5

	// linkTime bounds the wait of the capture for a frame.
	linkTime = 100 * time.Millisecond
)

// A trip is that of one packet from the VTEPs through a node and back. Both
// moments are the kernel's, at the link of the VTEPs, so that it does not
// matter when this program gets to run.
type trip struct {
	sent  time.Time
	delay time.Duration // negative if no copy came back
}

// probe floods packets through each of nodes, at a steady pace, until ctx is
// done. It returns the trips through each node in order.
func (g *group) probe(ctx context.Context, nodes ...*snode) ([][]trip, error) {
	fd, err := g.openLink()
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	c, err := g.vteps.ListenUDP(netip.AddrPortFrom(prober, firstPort))
	if err != nil {
		return nil, err
	}
	defer c.Close()

	trips := make([][]trip, len(nodes))
	eg, ctx := errgroup.WithContext(ctx)
	eg.Go(func() error { return capture(ctx, fd, trips) })
	eg.Go(func() error {
		tick := time.NewTicker(probeEvery)
		defer tick.Stop()
		for number := uint32(0); ; number++ {
			select {
			case <-ctx.Done():
				return nil
			case <-tick.C:
			}
			for i, s := range nodes {
				if _, err := c.WriteToUDPAddrPort(g.probeFrame(byte(i), number), netip.AddrPortFrom(s.addr, vxlan.Port)); err != nil {
					return err
				}
			}
		}
	})
	return trips, eg.Wait()
}

// probeFrame returns a VXLAN packet that tells its number and node.
func (g *group) probeFrame(node byte, number uint32) []byte {
	payload := make([]byte, 46) // of the shortest Ethernet frame
	payload[0] = node
	binary.BigEndian.PutUint32(payload[1:], number)
	return netlab.Encapsulate(probeVNI, netlab.Ethernet(netlab.Broadcast, g.mac, experimental, payload))
}

// openLink opens a packet socket on the link of the VTEPs that sees both
// directions and the time of each frame.
func (g *group) openLink() (fd int, err error) {
	link, err := g.vteps.Link("eth0")
	if err != nil {
		return -1, err
	}
	err = g.vteps.Do(func() error {
		if fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0); err != nil {
			return os.NewSyscallError("packet socket", err)
		}
		tv := unix.NsecToTimeval(int64(linkTime))
		err := errors.Join(
			unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1),
			unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 64<<20),
			unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &tv),
			unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: networkOrder(unix.ETH_P_ALL), Ifindex: link.Index}))
		if err != nil {
			unix.Close(fd)
		}
		return err
	})
	return fd, err
}

func networkOrder(v uint16) uint16 {
	return binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, v))
}

// capture notes trips until ctx is done and no more frames come.
func capture(ctx context.Context, fd int, trips [][]trip) error {
	b, oob := make([]byte, 2048), make([]byte, 128)
	for {
		n, k, _, from, err := unix.Recvmsg(fd, b, oob, 0)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.EAGAIN):
			if ctx.Err() != nil {
				return nil
			}
			continue
		case err != nil:
			return fmt.Errorf("capture: %w", err)
		}
		if n < probeLen || b[offProtocol] != unix.IPPROTO_UDP || binary.BigEndian.Uint16(b[offPort:]) != vxlan.Port ||
			binary.BigEndian.Uint32(b[offVNI:])>>8 != uint32(probeVNI) {
			continue
		}
		at, err := timestamp(oob[:k])
		if err != nil {
			return err
		}
		ts := &trips[b[offNode]]
		number := int(binary.BigEndian.Uint32(b[offNumber:]))
		if from.(*unix.SockaddrLinklayer).Pkttype == unix.PACKET_OUTGOING {
			*ts = append(*ts, trip{sent: at, delay: -1})
		} else if netip.AddrFrom4([4]byte(b[offDst:])) == probed && number < len(*ts) {
			(*ts)[number].delay = at.Sub((*ts)[number].sent)
		}
	}
}

// timestamp returns the time in the control messages of a frame (SCM_TIMESTAMPNS,
// socket(7)).
func timestamp(oob []byte) (time.Time, error) {
	cs, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return time.Time{}, fmt.Errorf("capture: %w", err)
	}
	for _, c := range cs {
		if c.Header.Level == unix.SOL_SOCKET && c.Header.Type == unix.SCM_TIMESTAMPNS && len(c.Data) == 16 {
			return time.Unix(int64(binary.NativeEndian.Uint64(c.Data)), int64(binary.NativeEndian.Uint64(c.Data[8:]))), nil
		}
	}
	return time.Time{}, errors.New("capture: frame without a time")
}

// A span is a stretch of time.
type span struct{ from, to time.Time }

// within returns the trips that began in the span, from the first one on that
// was answered: before that the node was not there yet.
func within(ts []trip, s span) []trip {
	var out []trip
	for _, t := range ts {
		if !t.sent.Before(s.from) && t.sent.Before(s.to) && (t.delay >= 0 || len(out) > 0) {
			out = append(out, t)
		}
	}
	return out
}

// delays returns the delays of those that came back in ascending order, and how
// many were lost.
func delays(ts []trip) (ds []time.Duration, lost int) {
	for _, t := range ts {
		if t.delay < 0 {
			lost++
			continue
		}
		ds = append(ds, t.delay)
	}
	slices.Sort(ds)
	return ds, lost
}

// quantile returns the q-th part of sorted durations, 0 where there are none.
func quantile(ds []time.Duration, q float64) time.Duration {
	if len(ds) == 0 {
		return 0
	}
	return ds[min(int(q*float64(len(ds))), len(ds)-1)]
}
