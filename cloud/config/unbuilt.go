package config

import "k8s.io/apimachinery/pkg/util/validation/field"

// Unbuilt lists what a valid Config asks for and this version does not serve yet, as Parse lists mistakes; nil
// when there is nothing. Whoever would act on the Config asks first, so that nobody waits for an address that
// never comes.
func Unbuilt(c *Config) error {
	const way = "is not served by this version of Mooring yet: remove it"
	var unbuilt field.ErrorList
	for i := range c.Pools {
		pool, at := &c.Pools[i], field.NewPath("pools").Index(i)
		if pool.LoadBalancerClass != "" {
			unbuilt = append(unbuilt, field.Forbidden(at.Child("loadBalancerClass"), "a class of load balancers "+way))
		}
	}
	return join(unbuilt)
}
