// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"

	"vxsnd/internal/netlab"
	"vxsnd/internal/underlay"
)

// A headend is the kernel's own replication: a VXLAN device for each VNI, with a
// list of VTEPs that get what it cannot place. Frames of the sender are handed to
// it by a program in tc ingress, which costs less than a bridge.
type headend struct {
	ns      *netlab.Namespace
	fdb     *underlay.FDB
	devices []headendDevice
	steer   *ebpf.Map
	close   []func() error
}

type headendDevice struct {
	index int
	list  []netip.Addr // of VTEPs that get what it cannot place
}

// headendVNIs is the largest number of VNIs.
const headendVNIs = 1000

// newHeadend prepares a headend for frames that arrive at a device.
func newHeadend(ns *netlab.Namespace, dev string) (_ *headend, err error) {
	h := &headend{ns: ns}
	defer func() {
		if err != nil {
			h.Close()
		}
	}()
	h.steer, err = ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 4, MaxEntries: headendVNIs})
	if err != nil {
		return nil, fmt.Errorf("make map: %w", err)
	}
	h.close = append(h.close, h.steer.Close)
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type:    ebpf.SchedCLS,
		License: "Apache-2.0",
		Instructions: asm.Instructions{
			asm.LoadMem(asm.R7, asm.R1, skbData, asm.Word),
			asm.LoadMem(asm.R8, asm.R1, skbDataEnd, asm.Word),
			asm.Mov.Reg(asm.R2, asm.R7),
			asm.Add.Imm(asm.R2, offMark+markLen),
			asm.JGT.Reg(asm.R2, asm.R8, "pass"),
			asm.LoadMem(asm.R0, asm.R7, offMark, asm.Word), asm.JNE.Imm32(asm.R0, native32(magic), "pass"),
			asm.LoadMem(asm.R0, asm.R7, offMark+markIndex, asm.Word), asm.HostTo(asm.BE, asm.R0, asm.Word),
			asm.StoreMem(asm.RFP, -4, asm.R0, asm.Word),
			asm.LoadMapPtr(asm.R1, h.steer.FD()),
			asm.Mov.Reg(asm.R2, asm.RFP), asm.Add.Imm(asm.R2, -4),
			asm.FnMapLookupElem.Call(),
			asm.JEq.Imm(asm.R0, 0, "pass"),
			asm.LoadMem(asm.R1, asm.R0, 0, asm.Word),
			asm.Mov.Imm(asm.R2, 0),
			asm.FnRedirect.Call(),
			asm.Return(),
			asm.Mov.Imm(asm.R0, tcxNext).WithSymbol("pass"),
			asm.Return(),
		},
	})
	if err != nil {
		return nil, fmt.Errorf("load steering program: %w", err)
	}
	h.close = append(h.close, prog.Close)
	if err := ns.Do(func() error {
		h.fdb, err = underlay.OpenFDB()
		return err
	}); err != nil {
		return nil, err
	}
	h.close = append(h.close, func() error { h.fdb.Close(); return nil })
	detach, err := attach(ns, dev, prog)
	if err != nil {
		return nil, err
	}
	h.close = append(h.close, detach)
	return h, nil
}

func vxlanDevice(k int) string { return fmt.Sprintf("vxlan%d", k) }

// set makes a table's members the lists of the devices. Port 4789 belongs to
// them until clear.
func (h *headend) set(t table) error {
	var changes []underlay.FloodChange
	for k := range t.vnis {
		if k < len(h.devices) {
			if err := h.ns.SetUp(vxlanDevice(k)); err != nil {
				return err
			}
		} else if err := h.add(k); err != nil {
			return err
		}
		d := &h.devices[k]
		for _, a := range d.list {
			changes = append(changes, underlay.FloodChange{FloodEntry: underlay.FloodEntry{Index: d.index, Dst: a}, Remove: true})
		}
		d.list = t.list(k)
		for _, a := range d.list {
			changes = append(changes, underlay.FloodChange{FloodEntry: underlay.FloodEntry{Index: d.index, Dst: a}})
		}
	}
	return errors.Join(h.fdb.Apply(changes)...)
}

// add makes device k, which is the next.
func (h *headend) add(k int) error {
	o := netlab.VXLAN{VNI: uint32(firstVNI + k), Local: nodeSource, NoLearning: true}
	if err := h.ns.AddVXLAN(vxlanDevice(k), o); err != nil {
		return err
	}
	l, err := h.ns.Link(vxlanDevice(k))
	if err != nil {
		return err
	}
	h.devices = append(h.devices, headendDevice{index: l.Index})
	if err := h.steer.Put(uint32(k), uint32(l.Index)); err != nil {
		return fmt.Errorf("steer to %s: %w", l.Name, err)
	}
	return nil
}

// clear lets go of port 4789.
func (h *headend) clear(t table) error {
	for k := range t.vnis {
		if err := h.ns.SetDown(vxlanDevice(k)); err != nil {
			return err
		}
	}
	return nil
}

// churn makes a table's changes at a rate per second until ctx is done.
func (h *headend) churn(ctx context.Context, t table, rate int) error {
	cs, all := t.changes(), net.HardwareAddr(make([]byte, 6))
	left := map[change]bool{} // added, and not removed yet
	apply := func(c change) error {
		if !c.add {
			delete(left, change{c.vni, c.addr, true})
			return h.ns.DeleteFDB(vxlanDevice(c.vni), all, c.addr)
		}
		left[c] = true
		return h.ns.AddFDB(vxlanDevice(c.vni), all, c.addr)
	}
	for i, begin := 0, time.Now(); ctx.Err() == nil; {
		if due := int(time.Since(begin).Seconds() * float64(rate)); i >= due {
			time.Sleep(time.Millisecond)
			continue
		}
		if err := apply(cs[i%len(cs)]); err != nil {
			return err
		}
		i++
	}
	var errs []error
	for c := range left {
		c.add = false
		errs = append(errs, apply(c))
	}
	return errors.Join(errs...)
}

// Close detaches the program; the devices go with their namespace.
func (h *headend) Close() { closeAll(h.close) }
