# ruff: noqa
# mypy: ignore-errors
"""What int8 changes in scores of a detector of paper, against its float32 export, with modules left in float32."""
import sys, time, tempfile, torch, numpy as np
from pathlib import Path
from subspect.storage import load_detector
from subspect.images import read_image
from subspect.export.formats import _write_openvino
from subspect.export.combinations import ExportOptions
from subspect.export.graph import InspectionGraph, trace
from subspect.export import formats
import openvino as ov
torch.set_num_threads(1)
d=load_detector(Path('runs/tile_paper/detector')).eval()
paths=[Path(l.strip()) for l in open('held_out.txt')]
ims=[read_image(p) for p in paths[:5]]
float32=ov.Core().compile_model('exports/float32/model.xml','CPU',{'INFERENCE_PRECISION_HINT':'f32','INFERENCE_NUM_THREADS':1})
refs=[float(float32({'pixels':i[None],'threshold':np.float32(.5)})['score'].reshape(-1)[0]) for i in ims]
base=d.exact
extra={'dec':('latent_model.decoder',),'both':('object_decoder','latent_model.decoder'),'none':(),'subspace':('low_subspace','high_subspace'),'nets':('detection','upsampling'),'sub+det+up':('low_subspace','high_subspace','detection','upsampling'),'sub+obj+dec':('low_subspace','high_subspace','object_decoder','latent_model.decoder'),'sub+det':('low_subspace','high_subspace','detection')}
for name in sys.argv[1:]:
    d.exact=base+extra[name]
    opt=ExportOptions('openvino','int8',None,(),tuple(paths))
    out=Path(f'exports/v_{name}'); out.mkdir(exist_ok=True)
    with formats._quiet():
        prog=trace(InspectionGraph(d.exportable(),None,opt.picture_size))
        _write_openvino(prog,out/'model.xml',opt,d)
    core=ov.Core(); m=core.compile_model(out/'model.xml','CPU',{'INFERENCE_PRECISION_HINT':'f32','INFERENCE_NUM_THREADS':1})
    ds=[];ss=[];ts=[]
    for i,r in zip(ims,refs):
        t=time.process_time(); o=m({'pixels':i[None],'threshold':np.float32(0.5)}); ts.append(time.process_time()-t)
        mp=o['anomaly_map'][0]
        import torch.nn.functional as F
        sc=[o[k] for k in m.outputs if 'score' in k.get_any_name()][0]
        ss.append(abs(float(sc.reshape(-1)[0])-r))
    print(name, 'score diffs', np.round(ss,3), 'time', np.median(ts), flush=True)
