// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"net/http"
	"net/netip"

	"github.com/sirupsen/logrus"

	"vxsnd/internal/config"
	"vxsnd/internal/control"
	"vxsnd/internal/metrics/prom"
	"vxsnd/internal/node"
	"vxsnd/internal/preflight"
	"vxsnd/internal/process"
)

// A nodeService is the service node as a daemon sees it.
type nodeService struct {
	*node.Node
	cfg config.Config // of the start
	log logrus.FieldLogger
}

func newNodeService(c config.Config, log logrus.FieldLogger) (service, error) {
	n, err := node.New(c, log)
	if err != nil {
		return nil, err
	}
	return &nodeService{n, c, log}, nil
}

// Prepare calls that of the node.
func (s *nodeService) Prepare(c config.Config) (change, error) {
	p, err := s.Node.Prepare(c)
	if err != nil {
		return nil, err
	}
	return p, nil
}

// Commands are those of the node.
func (s *nodeService) Commands(base func() control.Process) []control.Command {
	return s.Node.Commands(func() control.Status { return control.Status{Process: base()} })
}

// Metrics answers with the node's figures.
func (s *nodeService) Metrics(fill func(*prom.Figures), maxVNIs func() int) http.Handler {
	return prom.Handler(prom.New(prom.Options{
		Source: func() prom.Figures {
			f := s.Figures()
			fill(&f)
			return f
		},
		MaxVNIs: maxVNIs, Version: currentVersion(), Log: s.log,
	}))
}

// Needs says what the configuration asks of the machine.
func (s *nodeService) Needs() preflight.Input { return nodeNeeds(&s.cfg) }

// nodeNeeds is what a service node with this configuration asks of the machine.
func nodeNeeds(c *config.Config) preflight.Input {
	in := preflight.Input{VRF: c.VRF}
	if !c.SvcnodeIP.IsUnspecified() {
		in.Anycast = c.SvcnodeIP
	}
	vteps := make(map[netip.Addr]struct{})
	for _, m := range c.VTEPMembership {
		if _, ok := vteps[m.Addr]; ok {
			continue
		}
		vteps[m.Addr] = struct{}{}
		if m.Addr.Is4() {
			in.Neighbours4++
		} else {
			in.Neighbours6++
		}
	}
	if c.EnableVXLANListen && !c.NoFlood {
		in.ReceiveBuffer = c.ReceiveQueue
		in.Ports = []uint16{c.VXLANListenPort, c.VXLANDestPort}
	}
	return in
}

// Capabilities are CAP_NET_RAW for flooding, with CAP_BPF and CAP_NET_ADMIN for
// that in the kernel, and CAP_NET_ADMIN for the service address on the loopback
// interface.
func (s *nodeService) Capabilities() []process.Capability {
	var caps []process.Capability
	if s.cfg.EnableVXLANListen && !s.cfg.NoFlood {
		caps = append(caps, process.NetRaw)
	}
	kernel := s.NeedsKernel()
	if kernel {
		caps = append(caps, process.BPF)
	}
	if kernel || s.cfg.InstallSvcnodeIP {
		caps = append(caps, process.NetAdmin)
	}
	return caps
}
