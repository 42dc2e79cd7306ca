# ruff: noqa
# mypy: ignore-errors
"""openvino_exact.py: scores of an export in bfloat16 with all but some modules marked to stay in float32 (paths at the top)."""
import sys, glob, numpy as np, openvino as ov, shutil
import xml.etree.ElementTree as ET
from pathlib import Path
sys.path.insert(0,'src')
from subspect.images import read_image
core=ov.Core(); path='exports/good/model.xml'
ps=sorted(glob.glob('photos/good/*.jpg'))[::5]+sorted(glob.glob('photos/defective/*.jpg'))[::2]
xs=[np.asarray(read_image(Path(p)),np.float32)[None] for p in ps]
m=core.read_model(path); ops=m.get_ordered_ops()
CONV=('Convolution','ConvolutionBackpropData')
def weight(o):
    n=o.input_value(1).get_node()
    while n.get_type_name()!='Constant': n=n.input_value(0).get_node()
    return n.get_friendly_name()
convs={o.get_friendly_name():weight(o) for o in ops if o.get_type_name() in CONV}
import collections
print(collections.Counter('.'.join(w.split('.')[:3]) for w in convs.values()))
def run(names):
    tree=ET.parse(path)
    for layer in tree.getroot().find('layers'):
        if layer.get('name') in names and layer.get('type') not in('Const','Parameter','Result'):
            rt=layer.find('rt_info')
            if rt is None: rt=ET.Element('rt_info'); layer.insert(1 if layer.find('data') is not None else 0, rt)
            ET.SubElement(rt,'attribute',name='precise',version='0')
    tree.write('mx.xml'); shutil.copy(path.replace('.xml','.bin'),'mx.bin')
    c=core.compile_model('mx.xml','CPU',{'INFERENCE_PRECISION_HINT':'bf16','INFERENCE_NUM_THREADS':1})
    o=[c([x,np.float32(.5)]) for x in xs]
    return np.array([float(q['score'][0]) for q in o]), np.concatenate([q['anomaly_map'].ravel() for q in o])
allops={o.get_friendly_name() for o in ops}
c=core.compile_model(path,'CPU',{'INFERENCE_PRECISION_HINT':'f32','INFERENCE_NUM_THREADS':1})
o=[c([x,np.float32(.5)]) for x in xs]; ref=(np.array([float(q['score'][0]) for q in o]), np.concatenate([q['anomaly_map'].ravel() for q in o]))
def show(tag,names):
    S,M=run(names); d=abs(S-ref[0]); print(f'{tag:40s} max {d.max():.4f} mean {d.mean():.5f} map {abs(M-ref[1]).mean():.6f}',flush=True)
show('all marked',allops)
mods=sorted({'.'.join(w.split('.')[:3]) if w.startswith('detector.latent') else '.'.join(w.split('.')[:2]) for w in convs.values()})
for md in mods: show('bf16 only convs of '+md, allops-{n for n,w in convs.items() if w.startswith(md)})
show('bf16 only non-convs', set(convs))
show('bf16', set())
