package hetznertest_test

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"

	"github.com/hetznercloud/hcloud-go/v2/hcloud"

	"github.com/mooring-lb/mooring/cloud/hetzner/hetznertest"
)

// A project with one server, a client of the product, and a purchase of which the client never hears.
func Example() {
	hetzner := hetznertest.New(hetznertest.Options{})
	defer hetzner.Close()
	hetzner.AddProject("prod", "secret")
	if _, err := hetzner.AddServer("prod", hetznertest.Machine{Name: "n1", IPv4: netip.MustParseAddr("192.0.2.1")}); err != nil {
		fmt.Println(err)
	}
	hetzner.AddRule(hetznertest.Rule{
		Operation: "POST /floating_ips", Nth: 1, Fault: hetznertest.Fault{Cut: true, AfterEffect: true},
	})

	client := hcloud.NewClient(
		hcloud.WithToken("secret"),
		hcloud.WithHTTPClient(&http.Client{Transport: hetzner.TransportAs("leader")}),
	)
	_, _, err := client.FloatingIP.Create(context.Background(), hcloud.FloatingIPCreateOpts{
		Type: hcloud.FloatingIPTypeIPv4, HomeLocation: &hcloud.Location{Name: "fsn1"},
	})
	fmt.Println(err != nil, hetzner.Purchases("prod"))
	for _, r := range hetzner.Log() {
		fmt.Println(r.Caller, r.Operation, r.Cut, r.Effect)
	}
	// Output:
	// true 1
	// leader POST /floating_ips true true
}
