// SPDX-License-Identifier: Apache-2.0

package process

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os/user"
	"slices"
	"strconv"
)

// ErrNoUser is matched by the errors of LookupIdentity about a user or a group
// that does not exist.
var ErrNoUser = errors.New("not known on this machine")

// An Identity is a user to run as, with the groups.
type Identity struct {
	Name   string // of the user, as it was looked up
	UID    int
	GID    int
	Groups []int // all supplementary groups; a login has GID among them
}

// LookupIdentity finds a user and a group by name or else by number, in
// /etc/passwd and /etc/group. Without a group it is the user's own. The
// supplementary groups are those that have the user as member, as for a login. A
// number without an account is taken as it is; such a user needs a group.
func LookupIdentity(name, group string) (*Identity, error) {
	u, err := lookupUser(name)
	if err != nil {
		return nil, fmt.Errorf("user %s: %w", name, err)
	}
	id := &Identity{Name: name}
	if id.UID, err = parseID(u.Uid); err != nil {
		return nil, fmt.Errorf("user %s: %w", name, err)
	}
	gid := u.Gid
	if group != "" {
		if gid, err = lookupGroup(group); err != nil {
			return nil, fmt.Errorf("group %s: %w", group, err)
		}
	}
	if gid == "" {
		return nil, fmt.Errorf("user %s: %w, so it needs a group", name, ErrNoUser)
	}
	groups := []string{gid}
	if u.Username != "" {
		members, err := u.GroupIds()
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("user %s: %w", name, err)
		}
		// As for initgroups(3), the account's own group does not count beside
		// the one given.
		groups = append(groups, slices.DeleteFunc(members, func(g string) bool { return g == u.Gid || g == gid })...)
	}
	for _, g := range groups {
		number, err := parseID(g)
		if err != nil {
			return nil, fmt.Errorf("group %s: %w", g, err)
		}
		id.Groups = append(id.Groups, number)
	}
	id.GID = id.Groups[0]
	return id, nil
}

func lookupUser(name string) (*user.User, error) {
	u, err := user.Lookup(name)
	if _, e := parseID(name); err != nil && e == nil {
		if u, err = user.LookupId(name); err != nil {
			return &user.User{Uid: name}, nil
		}
	}
	return u, known(err)
}

func lookupGroup(name string) (gid string, err error) {
	g, err := user.LookupGroup(name)
	if err == nil {
		return g.Gid, nil
	}
	if _, e := parseID(name); e == nil {
		return name, nil
	}
	return "", known(err)
}

// known replaces what os/user says about a name that it does not find. A
// container without the file to look it up in knows nobody.
func known(err error) error {
	var u user.UnknownUserError
	var g user.UnknownGroupError
	if errors.As(err, &u) || errors.As(err, &g) || errors.Is(err, fs.ErrNotExist) {
		return ErrNoUser
	}
	return err
}

// parseID parses the number of a user or a group. The highest one means "leave
// it as it is" to the kernel: setresuid(2).
func parseID(s string) (int, error) {
	n, err := strconv.ParseUint(s, 10, 32)
	if err == nil && n == math.MaxUint32 {
		err = strconv.ErrRange
	}
	return int(n), err
}
