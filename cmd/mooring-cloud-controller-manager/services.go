package main

import (
	"context"
	"fmt"
	"maps"

	utilfeature "k8s.io/apiserver/pkg/util/feature"
	cloudprovider "k8s.io/cloud-provider"
	"k8s.io/cloud-provider/app"
	"k8s.io/cloud-provider/app/config"
	servicecontroller "k8s.io/cloud-provider/controllers/service"
	"k8s.io/cloud-provider/names"
	genericcontrollermanager "k8s.io/controller-manager/app"
	"k8s.io/controller-manager/controller"

	"github.com/mooring-lb/mooring/cloud"
)

// controllers are those of upstream, with Services as the provider shows them.
func controllers() map[string]app.ControllerInitFuncConstructor {
	all := maps.Clone(app.DefaultInitFuncConstructors)
	all[names.ServiceLBController] = app.ControllerInitFuncConstructor{
		InitContext: all[names.ServiceLBController].InitContext, Constructor: newServiceController,
	}
	return all
}

// newServiceController implements app.InitFuncConstructor as upstream does, but for where the Services come from.
func newServiceController(init app.ControllerInitContext, c *config.CompletedConfig, provider cloudprovider.Interface) app.InitFunc {
	return func(ctx context.Context, running genericcontrollermanager.ControllerContext) (controller.Interface, bool, error) {
		mooring, ok := provider.(*cloud.Cloud)
		if !ok {
			return nil, false, fmt.Errorf("the provider is a %T and none of this program", provider)
		}
		made, err := servicecontroller.New(provider, c.ClientBuilder.ClientOrDie(init.ClientName), mooring.Services(),
			c.SharedInformers.Core().V1().Nodes(), c.ComponentConfig.KubeCloudShared.ClusterName, utilfeature.DefaultFeatureGate)
		if err != nil {
			return nil, false, fmt.Errorf("start the service controller: %w", err)
		}
		go made.Run(ctx, int(c.ComponentConfig.ServiceController.ConcurrentServiceSyncs), running.ControllerManagerMetrics)
		return nil, true, nil
	}
}
