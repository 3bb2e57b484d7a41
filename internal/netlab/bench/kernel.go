// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"vxsnd/internal/control"
)

// A kernelPart asks a node with the engine tc what the kernel does of its work.
type kernelPart struct {
	socket  string
	members int // of all VNIs, the senders among them

	packets, left uint64 // when it was settled: flooded in the kernel, left to raw
}

// settle waits until the kernel floods to all members and takes packets where
// the sender's come in, nothing is on its way there, and raw has none left.
func (k *kernelPart) settle(ctx context.Context) error {
	c, err := control.Dial(ctx, k.socket)
	if err != nil {
		return err
	}
	defer c.Close()
	for {
		s, err := status(ctx, c)
		if err != nil {
			return err
		}
		if f := s.Kernel; f != nil && f.Members >= k.members && f.Pending == 0 && slices.Contains(s.Devices, "packets") && s.Queues.Receive == 0 {
			k.packets, k.left = f.Packets, leftToRaw(f)
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for the kernel's members: %w: engine %s %s, devices %s, %+v", ctx.Err(), s.Engine, s.EngineReason, s.Devices, s.Kernel)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// share returns which part of the packets since settle was flooded in the
// kernel.
func (k *kernelPart) share(ctx context.Context) (float64, error) {
	c, err := control.Dial(ctx, k.socket)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	s, err := status(ctx, c)
	if err != nil || s.Kernel == nil || s.Kernel.Packets == k.packets {
		return 0, err
	}
	in := float64(s.Kernel.Packets - k.packets)
	return in / (in + float64(leftToRaw(s.Kernel)-k.left)), nil
}

func status(ctx context.Context, c *control.Client) (s control.Status, err error) {
	err = c.Call(ctx, control.CommandShow, nil, func(b json.RawMessage) error { return json.Unmarshal(b, &s) })
	return s, err
}

// leftToRaw counts the packets that the kernel handed up.
func leftToRaw(k *control.Kernel) (sum uint64) {
	for _, n := range k.HandedUp {
		sum += n
	}
	return sum
}
