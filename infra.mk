# The infrastructure. Settings go into ARGS: make deploy ARGS='-c stage=dev'

# Newer than 2.1148.1 there is 3.0.0 on npm, which was published by accident.
CDK := npx --yes aws-cdk@2.1148.1

.PHONY: synth deploy diff destroy e2e

synth: ## Synthesise the CloudFormation template into cdk.out
	$(CDK) synth --quiet $(ARGS)

deploy: ## Build the functions and deploy them
	$(CDK) deploy $(ARGS)

diff: ## Show what a deployment would change
	$(CDK) diff $(ARGS)

destroy: ## Delete the stack; the jobs table stays unless removalPolicy is destroy
	$(CDK) destroy $(ARGS)

e2e: ## Deploy into an emulator of AWS and try everything there
	CDK="$(CDK)" go test -tags e2e -count=1 -timeout 20m -parallel 16 -v ./e2e

# The SAM CLI runs the functions in containers, on the template that CDK
# synthesised. It knows them by their logical ids. EVENT names another input.
SAM := sam

.PHONY: sam-template sam-ack sam-process sam-callback sam-api sam-check

sam-template: ## Synthesise the template that the SAM CLI runs
	$(CDK) synth --quiet --output build/sam -c architecture=x86_64 -c localEndpoint=true $(ARGS)

sam-ack: EVENT ?= events/ack/tool-calls.json
sam-ack: sam-template ## Invoke the ack function with the SAM CLI
	$(SAM) local invoke RingbackAckE5A2F9AB --event $(EVENT) $(SAM_ARGS)

sam-process: EVENT ?= events/process/tool-calls.json
sam-process: sam-template ## Invoke the process function with the SAM CLI
	$(SAM) local invoke RingbackProcessA7AC0D3E --event $(EVENT) $(SAM_ARGS)

sam-callback: EVENT ?= events/callback/tool-calls.json
sam-callback: sam-template ## Invoke the callback function with the SAM CLI
	$(SAM) local invoke RingbackCallback0ED071A9 --event $(EVENT) $(SAM_ARGS)

sam-api: sam-template ## Serve the API with the SAM CLI, at http://127.0.0.1:3000/vapi and /results/
	$(SAM) local start-api $(SAM_ARGS)

sam-check: ## Try all of the above in a container engine
	infra/check-sam
