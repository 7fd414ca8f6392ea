#    Licensed under the Apache License, Version 2.0 (the "License"); you may
#    not use this file except in compliance with the License. You may obtain
#    a copy of the License at
#
#         http://www.apache.org/licenses/LICENSE-2.0
#
#    Unless required by applicable law or agreed to in writing, software
#    distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
#    WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the
#    License for the specific language governing permissions and limitations
#    under the License.

"""How the documentation is built: "tox -e docs" or "tools/test.sh docs"."""

extensions = [
    'cliff.sphinxext',
    'openstackdocstheme',
    'oslo_config.sphinxconfiggen',
    'oslo_config.sphinxext',
    'oslo_policy.sphinxext',
    'oslo_policy.sphinxpolicygen',
]

project = 'nova-gpu-lease'
copyright = 'the nova-gpu-lease developers'
html_theme = 'openstackdocs'
openstackdocs_auto_name = False
openstackdocs_auto_version = False
version = release = ''
pygments_style = 'native'

config_generator_config_file = [
    ('../../etc/nova-gpu-lease-config-generator.conf',
     '_static/nova-gpu-lease')]
policy_generator_config_file = [
    ('../../etc/nova-gpu-lease-policy-generator.conf',
     '_static/nova-gpu-lease')]
