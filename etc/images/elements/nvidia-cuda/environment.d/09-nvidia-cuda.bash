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

export DIB_NVIDIA_DRIVER=${DIB_NVIDIA_DRIVER:-570-server}
export DIB_NVIDIA_CUDA=${DIB_NVIDIA_CUDA:-12-8}
export DIB_NVIDIA_CUDA_PACKAGES=${DIB_NVIDIA_CUDA_PACKAGES:-cuda-cudart-$DIB_NVIDIA_CUDA cuda-libraries-$DIB_NVIDIA_CUDA}
export DIB_NVIDIA_FABRICMANAGER=${DIB_NVIDIA_FABRICMANAGER:-0}
export DIB_NVIDIA_KEYRING_SHA256=${DIB_NVIDIA_KEYRING_SHA256:-}
# The driver is in "restricted", what it suggests in "multiverse".
export DIB_DEBIAN_COMPONENTS=${DIB_DEBIAN_COMPONENTS:-main,restricted,universe,multiverse}
