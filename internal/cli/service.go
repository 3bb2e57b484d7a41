// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"

	"github.com/sirupsen/logrus"

	"vxsnd/internal/config"
)

// A service is what a daemon runs. Its methods are called in this order, each
// once; Close also where Listen failed.
type service interface {
	Listen(ctx context.Context) error
	Run(ctx context.Context) error
	Close() error
}

// newService builds the service node. Tests put another one in its place.
var newService = func(config.Config, logrus.FieldLogger) (service, error) {
	return absent{}, nil
}

// absent stands for the node until there is one.
type absent struct{}

var errAbsent = errors.New("no node in this build")

func (absent) Listen(context.Context) error { return errAbsent }
func (absent) Run(context.Context) error    { return errAbsent }
func (absent) Close() error                 { return nil }

// What the errors of a service say by errors.Is, and what may be done about
// them.
var (
	errBind      = errors.New("could not bind")
	errPrivilege = errors.New("lacks privilege")
	nodeHint     = func(error) string { return "" }
)
